"use strict";

const EXAMPLES = {
  "where an object is": [
    "Mary moved to the bathroom.\nMary took the apple there.\nJohn went to the hallway.\n" +
      "Mary travelled to the kitchen.\nSandra journeyed to the office.",
    "Where is the apple?",
  ],
  "where somebody is": [
    "Mary moved to the bathroom.\nJohn went to the hallway.\nDaniel went back to the garden.\n" +
      "Mary travelled to the office.\nSandra moved to the bedroom.",
    "Where is Mary?",
  ],
  "what somebody fears": [
    "Mice are afraid of cats.\nSheep are afraid of wolves.\nGertrude is a sheep.\n" +
      "Wolves are afraid of mice.\nJessica is a mouse.",
    "What is Gertrude afraid of?",
  ],
  "who gave it": [
    "Bill got the football there.\nBill went to the garden.\nBill gave the football to Fred.\n" +
      "Fred handed the football to Jeff.",
    "Who did Bill give the football to?",
  ],
};
// What is dark in a picture.
const COLOURS = {
  inputs: [70, 80, 95],
  targets: [70, 80, 95],
  outputs: [70, 80, 95],
  writes: [217, 102, 31],
  reads: [31, 111, 180],
  usage: [46, 125, 80],
  gates: [118, 84, 168],
  links: [29, 39, 51],
};
const [GUTTER, LINKS_GUTTER] = [124, 34]; // for the names of rows
const [LEAST_WEIGHT, MOST_NAMED] = [0.05, 3]; // of slots that are named at a step

const $ = (selector) => document.querySelector(selector);

function element(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...properties });
}

async function ask(path, body) {
  const response = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

// Sends a form as JSON when it is submitted, and shows the answer.
function connect(form, show) {
  const [status, button] = [form.querySelector(".status"), form.querySelector("button")];
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    status.className = "status";
    status.textContent = "Working. A model's first run takes some seconds.";
    try {
      const body = {};
      for (const field of form.elements) {
        if (field.name) body[field.name] = field.type === "number" ? +field.value : field.value;
      }
      show(await ask(`page/${form.id}`, body));
      status.textContent = "";
    } catch (error) {
      status.className = "status error";
      status.textContent = error.message;
    }
    button.disabled = false;
  });
}

function mixed(colour, part) {
  const share = Math.min(Math.max(part, 0), 1);
  return `rgb(${colour.map((value) => Math.round(255 + share * (value - 255)))})`;
}

// ---- A story

function showAnswer({ answer, probability, sentences, steps, read, unknown }) {
  $("#answer").hidden = false;
  $("#said").textContent = answer;
  $("#probability").textContent = `with probability ${probability.toFixed(2)}`;
  $("#unknown").textContent = unknown.length
    ? `The model has never seen: ${unknown.join(", ")}.`
    : "";
  $("#steps").replaceChildren(...["", ...steps].map((name) => element("th", name)));
  const rows = sentences.map((sentence, number) => {
    const row = element("tr");
    row.append(element("td", sentence));
    for (const weights of read) {
      const weight = weights[number];
      const cell = element("td", weight < 0.005 ? "" : weight.toFixed(2));
      cell.style.backgroundColor = mixed(COLOURS.reads, weight);
      cell.style.color = weight > 0.5 ? "white" : "";
      row.append(cell);
    }
    return row;
  });
  $("#sentences").replaceChildren(...rows);
}

// ---- A sequence

let run = null; // what is shown
let timer = null; // while it plays

// Draws columns of values, rows from the top, right of the names of the rows.
function draw(canvas, { values, rows, dark, light, kind }, width, height, gutter) {
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const [across, down] = [(width - gutter) / values.length, height / rows.length];
  context.fillStyle = "#eef1f5"; // where there is nothing to show
  context.fillRect(gutter, 0, width - gutter, height);
  values.forEach((column, x) =>
    column.forEach((value, y) => {
      if (value === null) return;
      context.fillStyle = mixed(COLOURS[kind], (value - light) / (dark - light));
      const [left, top] = [gutter + x * across, y * down];
      // Lines between cells that are large.
      context.fillRect(left, top, across - (across > 6 ? 0.5 : 0), down - (down > 5 ? 0.5 : 0));
    }),
  );
  context.fillStyle = "#6a7686";
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  const every = Math.ceil(12 / down);
  for (let y = 0; y < rows.length && (y * down + 10 < height || down >= 10); y += every) {
    context.fillText(rows[y], gutter - 6, y * down + Math.max(down / 2, 6));
  }
}

function heightOf(panel) {
  const each = Math.min(Math.max(150 / panel.rows.length, 1.5), 14);
  return Math.round(Math.max(each * panel.rows.length, 12));
}

function showRun(answer) {
  run = answer;
  $("#run").hidden = false;
  const asked = run.right.filter((each) => each !== null);
  const right = asked.filter(Boolean).length;
  $("#verdict").textContent =
    `${right} of ${asked.length} answers are right. The sequence touches ${run.slots.length} ` +
    `of ${run.memory_slots.toLocaleString("en")} slots.`;
  $("#links").hidden = !run.links;
  const figures = run.panels.map((panel) => {
    const figure = element("figure");
    const caption = element("figcaption", `${panel.name} `);
    caption.append(element("span", `${panel.light} white, ${panel.dark} dark`));
    panel.canvas = element("canvas", "", { ariaLabel: `${panel.name} over time` });
    panel.canvas.addEventListener("mousemove", (event) => explain(panel, event));
    figure.append(caption, panel.canvas);
    return figure;
  });
  $("#panels").replaceChildren(...figures, element("div", "", { id: "cursor" }));
  $("#step").max = run.captions.length - 1;
  $("#step").value = run.right.findIndex((each) => each !== null);
  drawPanels();
  pause();
}

function drawPanels() {
  if (!run) return;
  for (const panel of run.panels) {
    draw(panel.canvas, panel, $("#panels").clientWidth, heightOf(panel), GUTTER);
  }
  showStep();
}

function heaviest(kind, step) {
  const { values, rows } = run.panels.find((panel) => panel.kind === kind);
  const named = values[step]
    .map((weight, row) => [weight, rows[row]])
    .filter(([weight]) => weight > LEAST_WEIGHT)
    .sort(([a], [b]) => b - a)
    .slice(0, MOST_NAMED);
  return named.map(([weight, row]) => `${row} (${weight.toFixed(2)})`).join(", ") || "nothing";
}

function showStep() {
  const [step, steps] = [+$("#step").value, run.captions.length];
  const across = ($("#panels").clientWidth - GUTTER) / steps;
  $("#cursor").style.left = `${GUTTER + step * across - 1.5}px`;
  $("#cursor").style.width = `${across + 2.5}px`;
  $("#when").textContent = `Step ${step + 1} of ${steps}`;
  const verdict = { true: ": right", false: ": wrong", null: "" }[run.right[step]];
  $("#caption").textContent = run.captions[step] + verdict;
  $("#writes").textContent = heaviest("writes", step);
  $("#reads").textContent = heaviest("reads", step);
  if (run.links) {
    const values = run.slots.map(() => run.slots.map(() => 0));
    for (const [from, to, weight] of run.links[step]) values[to][from] = weight;
    const links = { values, rows: run.slots, dark: 1, light: 0, kind: "links" };
    draw($("#links canvas"), links, 280, 280 - LINKS_GUTTER, LINKS_GUTTER);
  }
}

// What is under the mouse, as a tooltip.
function explain({ canvas, values, rows }, event) {
  const row = Math.floor((event.offsetY / canvas.clientHeight) * rows.length);
  const value = values[stepAt(event)][row];
  canvas.title = `${rows[row]}, step ${stepAt(event) + 1}: ${value ?? "nothing"}`;
}

function stepAt(event) {
  const left = event.clientX - $("#panels").getBoundingClientRect().left - GUTTER;
  const step = Math.floor((left / ($("#panels").clientWidth - GUTTER)) * run.captions.length);
  return Math.min(Math.max(step, 0), run.captions.length - 1);
}

function pause() {
  clearInterval(timer);
  timer = null;
  $("#play").textContent = "Play";
}

function play() {
  if (timer) return pause();
  const step = $("#step");
  if (step.value === step.max) step.value = 0;
  $("#play").textContent = "Pause";
  timer = setInterval(() => {
    step.stepUp();
    showStep();
    if (step.value === step.max) pause();
  }, 250);
}

// ---- The page

function chooseRun(models) {
  const form = $("#runs").elements;
  const { size, least, most, start, most_seed: mostSeed } = models[form.model.selectedIndex];
  $("#size").textContent = `${size}, ${least} to ${most}`;
  Object.assign(form.size, { min: least, max: most, value: start });
  Object.assign(form.seed, { max: mostSeed });
}

function chooseExample() {
  const form = $("#stories").elements;
  [form.story.value, form.question.value] = EXAMPLES[$("#examples").value];
}

async function begin() {
  connect($("#stories"), showAnswer);
  connect($("#runs"), showRun);
  const { stories, runs } = await ask("page/models", {});
  if (!runs.length && !stories.length) {
    throw new Error("The folder above the served model has no models that the page can show.");
  }
  $("#stories").closest("section").hidden = !stories.length;
  $("#runs").closest("section").hidden = !runs.length;
  const option = (text, value) => element("option", text, { value });
  $("#stories").elements.model.append(
    ...stories.map(({ name, layer }) => option(`${layer} (${name})`, name)),
  );
  $("#runs").elements.model.append(
    ...runs.map(({ name, layer, task }) => option(`${task}: ${layer} (${name})`, name)),
  );
  $("#examples").append(...Object.keys(EXAMPLES).map((name) => option(name, name)));
  $("#examples").addEventListener("change", chooseExample);
  $("#runs").elements.model.addEventListener("change", () => chooseRun(runs));
  chooseExample();
  if (runs.length) chooseRun(runs);
  $("#step").addEventListener("input", showStep);
  $("#play").addEventListener("click", play);
  $("#panels").addEventListener("click", (event) => {
    $("#step").value = stepAt(event);
    showStep();
  });
  window.addEventListener("resize", drawPanels);
}

begin().catch((error) => {
  $("header").append(element("p", error.message, { className: "status error" }));
});
