"""Build keras_sam/tasks/underground.csv: central London's Underground as a graph.

Nodes are the stations of zone 1 where one can change lines; an edge is a ride on one
line to the next of them. The Elizabeth line is left out: it opened after the DNC paper,
whose test graph this stands for (its own extract is not published).

    python scripts/underground.py FOLDER    # with london.stations.csv and so on
"""

import argparse
import csv
import math
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "keras_sam" / "tasks"
LEFT_OUT = "Elizabeth"


def read(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interchanges(folder):
    """Stations, lines, and for each line its connections among all stations."""
    stations = {row["id"]: row for row in read(folder / "london.stations.csv")}
    lines = {
        row["line"]: row["name"]
        for row in read(folder / "london.lines.csv")
        if LEFT_OUT not in row["name"]
    }
    neighbours = {line: {} for line in lines}
    for row in read(folder / "london.connections.csv"):
        if row["line"] in lines:
            there, back = row["station1"], row["station2"]
            neighbours[row["line"]].setdefault(there, set()).add(back)
            neighbours[row["line"]].setdefault(back, set()).add(there)
    chosen = {
        station
        for station, row in stations.items()
        if float(row["zone"] or "inf") < 2  # A few have no zone. 1.5: on its border.
        and sum(station in graph for graph in neighbours.values()) > 1
    }
    return stations, lines, neighbours, chosen


def rides(graph, start, chosen):
    """The chosen stations next to `start` on a line, past those that are not."""
    found, seen, waiting = set(), {start}, [start]
    while waiting:
        for station in graph[waiting.pop()] - seen:
            seen.add(station)
            if station in chosen:
                found.add(station)
            else:
                waiting.append(station)
    return found


def direction(stations, start, end):
    """The point of the compass from one station to another."""
    north = float(stations[end]["latitude"]) - float(stations[start]["latitude"])
    east = float(stations[end]["longitude"]) - float(stations[start]["longitude"])
    east *= math.cos(math.radians(51.5))
    eighth = round(math.atan2(east, north) / (math.pi / 4)) % 8
    return ["N", "NE", "E", "SE", "S", "SW", "W", "NW"][eighth]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    stations, lines, neighbours, chosen = interchanges(folder)
    rows = []
    for line, name in lines.items():
        for start in chosen & set(neighbours[line]):
            for end in rides(neighbours[line], start, chosen):
                ride = f"{name} {direction(stations, start, end)}"
                rows.append((stations[start]["name"], ride, stations[end]["name"]))
    rows.sort()
    keys = [row[:2] for row in rows]
    unclear = sorted({key for key in keys if keys.count(key) > 1})
    assert not unclear, f"A ride must lead to one station only: {unclear}"
    with open(TARGET / "underground.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["station", "ride", "next_station"])
        writer.writerows(rows)
    licence = (folder / "LICENSE").read_text(encoding="utf-8").strip()
    (TARGET / "underground.LICENSE").write_text(
        "underground.csv is an extract, by scripts/underground.py, of a table of the\n"
        "London Underground's stations and connections with this licence:\n\n"
        f"{licence}\n",
        encoding="utf-8",
    )
    print(f"{len({row[0] for row in rows})} stations, {len(rows)} rides")


if __name__ == "__main__":
    main()
