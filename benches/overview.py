"""Draws benches/overview.svg, the picture of the README: `python benches/overview.py`.

It shows rows of the last full run (benches/results.json) as multiples of the standard library's rate, on a
logarithmic scale.
"""

import json
import math
from html import escape
from pathlib import Path

import table

HERE = Path(__file__).parent
PICTURE = HERE / "overview.svg"

# The best rows and the least: a reader sees where nothing is gained, too.
ROWS = [
    "queue.ints",
    "queue.dicts",
    "queue.arrays",
    "pipe.ping_pong",
    "pipe.arrays",
    "pool.apply",
    "pool.map_chunksize_1",
    "pool.map_default",
    "pool.map_array_arguments",
    "manager.dict_set_get",
    "lock.two_processes",
    "process.forkserver",
    "process.spawn",
    "process.fork",
]

WIDTH, TOP, LINE, BAR = 1000, 64, 24, 14
LEFT, SCALE_END = 250, 680
MARKS = (1, 2, 5, 10, 20, 50, 100, 200)


def draw(results):
    """The picture as text."""
    records = {record["name"]: record for record in results["rows"]}
    shown = sorted((records[name] for name in ROWS), key=lambda record: -record["ratio"]["median"])
    bottom = TOP + LINE * len(shown)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 48}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
            "<title>Procession's rate in multiples of the standard library's</title>",
            f'<rect width="{WIDTH}" height="{bottom + 48}" rx="8" fill="#fff"/>',
            '<text x="20" y="28" font-size="17" font-weight="bold">'
            "Procession's rate in multiples of the standard library's</text>",
            *(_mark(times, bottom) for times in MARKS),
            *(_bar(record, TOP + LINE * at) for at, record in enumerate(shown)),
            f'<text x="20" y="{bottom + 32}" font-size="11" fill="#666">{_circumstances(results)}</text>',
            "</svg>\n",
        ]
    )


def _x(times):
    return LEFT + (SCALE_END - LEFT) * math.log(times) / math.log(MARKS[-1])


def _mark(times, bottom):
    x = _x(times)
    return (
        f'<path d="M{x:.1f} {TOP - 6}V{bottom}" stroke="#ddd"/>'
        f'<text x="{x:.1f}" y="{TOP - 10}" text-anchor="middle" font-size="11" fill="#666">{times}x</text>'
    )


def _bar(record, top):
    ratio, middle = record["ratio"], top + BAR / 2
    end = _x(ratio["median"])
    ours, stdlib = (table.number(record[side]["median"]) for side in ("ours", "stdlib"))
    unit = {"1/s": "a second"}.get(record["unit"], record["unit"])
    rates = escape(f"{ours} instead of {stdlib} {unit}")
    return (
        f'<text x="{LEFT - 8}" y="{top + 12}" text-anchor="end">{escape(record["title"])}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{max(end - LEFT, 1):.1f}" height="{BAR}" fill="#3a7ca5"/>'
        f'<path d="M{_x(ratio["low"]):.1f} {middle}H{_x(ratio["high"]):.1f}" stroke="#16425b"/>'
        f'<text x="{SCALE_END + 14}" y="{top + 12}"><tspan font-weight="bold">{ratio["median"]:.3g}x</tspan>'
        f'<tspan fill="#666" font-size="12" x="{SCALE_END + 62}">{rates}</tspan></text>'
    )


def _circumstances(results):
    about = results["machine"]
    return escape(
        f"Medians, with the lowest and the highest ratio as a line. {about['cpu']}, {about['cpus']} CPUs, "
        f"Linux {about['kernel'].partition('-')[0]}, Python {about['python']}, {about['date']}: "
        f"{results['command']}"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(json.loads((HERE / "results.json").read_text())))
