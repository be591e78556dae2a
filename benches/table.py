"""Draws the table. Run alone, it puts the tables of the last full run into benches/README.md."""

import json
import os
import platform
import re
from datetime import date
from pathlib import Path

import goals

HERE = Path(__file__).parent
HEAD = ["", "unit", "stdlib", "Procession", "ratio", "lowest - highest", "floor / aim", "CPU an operation"]
HEAD += ["put, then killed"]


def machine():
    """The machine that the numbers depend on; never a host name or a path."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def to_json(results):
    """The results with a line for each row, so that two versions compare well."""
    about = {key: value for key, value in results.items() if key != "rows"}
    rows = ",\n".join(json.dumps(record) for record in results["rows"])
    return f'{json.dumps(about)[:-1]}, "rows": [\n{rows}\n]}}\n'


def render(results):
    """The table of one run, as Markdown that also reads well in a terminal."""
    return _aligned([HEAD, *map(_cells, results["rows"])])


def render_rivals(results):
    """Procession beside others: its rate, and how many times it is of theirs."""
    rivals = list(dict.fromkeys(side for record in results["rows"] for side in record["rates"]))
    lines = [["", "unit", *rivals]]
    for record in results["rows"]:
        ours = record["rates"]["Procession"]
        cells = [number(ours)]
        for rival in rivals[1:]:
            rate = record["rates"].get(rival)
            cells.append(f"{number(rate)} ({ours / rate:.3g}x)" if rate else "")
        lines.append([record["title"], record["unit"], *cells])
    return _aligned(lines)


def _aligned(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def _cells(record):
    if "error" in record:
        return [
            record["title"],
            record["unit"],
            "failed:",
            record["error"].replace("|", "/")[:70],
            "",
            "",
            "",
            "",
            "",
        ]
    stdlib, ours, ratio = record["stdlib"], record["ours"], record.get("ratio")
    return [
        record["title"],
        record["unit"],
        _with_spread(stdlib),
        _with_spread(ours),
        f"{ratio['median']:.3g}x" if ratio else "",
        f"{ratio['low']:.3g} - {ratio['high']:.3g}" if ratio else "",
        goals.mark(record),
        _cpu(stdlib["cpu_us"], ours["cpu_us"]),
        _survival(stdlib, ours),
    ]


def _survival(stdlib, ours):
    """Whether a message arrived whose producer was killed right after `put`."""
    words = {True: "kept", False: "lost"}
    if "survives" not in ours:
        return ""
    return f"{words[ours['survives']]}; stdlib: {words[stdlib['survives']]}"


def _with_spread(side):
    half = (max(side["values"]) - min(side["values"])) / 2
    spread = f" ±{100 * half / side['median']:.0f} %" if side["median"] >= 1 else ""
    return number(side["median"]) + spread


def _cpu(stdlib, ours):
    return f"{ours / stdlib:.2f} of the stdlib's" if stdlib and ours else ""


def number(value):
    """Three figures and a letter: 277 k, 11.0 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def into_readme():
    """Puts the tables of the last full run between the markers of README.md."""
    readme = HERE / "README.md"
    page = readme.read_text()
    for marker, file, draw in (
        ("python", "results.json", render),
        ("rivals", "results-rivals.json", render_rivals),
    ):
        results = json.loads((HERE / file).read_text())
        page = _between(page, marker, f"{_circumstances(results)}\n\n{draw(results)}")
    for marker, file in (("rust", "results-rust.md"), ("rust rivals", "results-rivals-rust.md")):
        page = _between(page, marker, (HERE / file).read_text().strip())
    readme.write_text(page)


def _circumstances(results):
    about = results["machine"]
    return (
        f"{about['cpu']} ({about['architecture']}), {about['cpus']} CPUs with a load of {about['load']} from "
        f"other work at the start, Linux {about['kernel']}, Python {about['python']}, {about['date']}; "
        f"`{results['command']}`."
    )


def _between(page, language, text):
    marked = re.compile(rf"(?<=<!-- {language} table -->\n).*?(?=\n<!-- end -->)", re.DOTALL)
    return marked.sub(lambda _: f"\n{text}\n", page, count=1)


if __name__ == "__main__":
    into_readme()
