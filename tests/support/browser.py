"""A headless Chromium that a test drives, through the DevTools protocol.

Commands and answers are JSON, ended by a zero byte, in two pipes
(https://chromedevtools.github.io/devtools-protocol, `--remote-debugging-pipe`). So the
tests need no other package, and skip where there is no Chromium.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which a container's root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_chromium():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a headless Chromium, for a `with` statement.

    Args:
        width: Integer, of the window.
        height: Integer.
        seconds: Number, how long anything may take.

    Attributes:
        requested: List of the addresses that the page asked for.
        errors: List of strings, the errors of the page's scripts.
    """

    def __init__(self, width=1120, height=900, seconds=180):
        self._seconds = seconds
        self._number = 0
        self._left = b""
        self.requested, self.errors = [], []
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            )
            commands, self._commands = os.pipe()
            self._answers, answers = os.pipe()
            # Chromium reads from file 3 and writes to file 4.
            command = f'exec "$@" 3<&{commands} 4>&{answers}'
            window = f"--window-size={width},{height}"
            profile = f"--user-data-dir={folder}"
            self._process = subprocess.Popen(
                [
                    "bash",
                    "-c",
                    command,
                    "_",
                    find_chromium(),
                    *OPTIONS,
                    window,
                    profile,
                ],
                pass_fds=(commands, answers),
                stderr=subprocess.DEVNULL,
            )
            os.close(commands)
            os.close(answers)
            stack.callback(self._end)
            self._session = None
            page = self.call("Target.createTarget", url="about:blank")
            attached = self.call("Target.attachToTarget", flatten=True, **page)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network"):
                self.call(f"{domain}.enable")
            self._stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _end(self):
        os.close(self._commands)
        self._process.kill()
        self._process.wait()
        os.close(self._answers)

    def call(self, method, **parameters):
        """What Chromium answers to a command of the protocol."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            elif message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]))
            elif message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _next(self):
        while b"\0" not in self._left:
            part = os.read(self._answers, 2**20)
            assert part, "Chromium has ended"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def open(self, address):
        self.call("Page.navigate", url=address)

    def evaluate(self, script):
        """The value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, condition):
        """Waits until an expression of JavaScript is true."""
        end = time.monotonic() + self._seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.1)

    def text(self, selector):
        """What a reader sees of an element."""
        return self.evaluate(
            f"document.querySelector({json.dumps(selector)}).innerText"
        )

    def click(self, selector):
        """Clicks the middle of an element, with a mouse."""
        script = (
            f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect()"
            f".toJSON()))(document.querySelector({json.dumps(selector)}))"
        )
        box = self.evaluate(script)
        middle = {
            "x": box["x"] + box["width"] / 2,
            "y": box["y"] + box["height"] / 2,
        }
        for kind in ("mousePressed", "mouseReleased"):
            options = {"button": "left", "clickCount": 1, **middle}
            self.call("Input.dispatchMouseEvent", type=kind, **options)

    def type(self, selector, text):
        """Types into a field, in the place of what it holds."""
        self.click(selector)
        self.evaluate("document.activeElement.select()")
        self.call("Input.insertText", text=text)

    def picture(self, selector, path):
        """Writes a PNG of an element."""
        script = (
            "(({x, y, width, height}) => ({x: x + scrollX, y: y + scrollY, width, "
            "height}))(document.querySelector"
            f"({json.dumps(selector)}).getBoundingClientRect())"
        )
        answer = self.call(
            "Page.captureScreenshot",
            clip={**self.evaluate(script), "scale": 1},
            captureBeyondViewport=True,
        )
        path.write_bytes(base64.b64decode(answer["data"]))
