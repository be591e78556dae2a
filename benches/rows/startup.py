"""What a program pays before it does anything: the import, and the `.pth` file without the switch."""

import site
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import Reading, row

# The package's import loads these modules of the stdlib, so the stdlib's side loads them too.
LOADED = ("context", "process", "reduction", "util")
USUAL = (*LOADED, "connection", "pool", "queues", "sharedctypes", "spawn", "synchronize")
CLOCKED = """
import time
started = time.perf_counter()
import {names}
print(time.perf_counter() - started)
"""


def milliseconds_to_import(names):
    program = CLOCKED.format(names=", ".join(names))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000


def submodules(mp, names):
    return [mp.__name__, *(f"{mp.__name__}.{name}" for name in names)]


@row("import, with the same modules loaded", unit="ms", lower_is_better=True)
def bare(mp, context):
    names = submodules(mp, LOADED)
    return Reading(median(milliseconds_to_import(names) for _ in range(5)))


@row("import, with all the usual submodules", unit="ms", lower_is_better=True)
def usual(mp, context):
    names = submodules(mp, USUAL)
    return Reading(median(milliseconds_to_import(names) for _ in range(5)))


@row("a .pth file at interpreter start: a comment, and ours", unit="us", lower_is_better=True)
def pth(mp, context):
    home = Path(mp.__file__).parent.parent
    text = (home / "procession.pth").read_text() if mp.__name__ == "procession" else "# a comment\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "some.pth").write_text(text)
        taken = []
        for _ in range(200):
            started = time.perf_counter()
            site.addpackage(folder, "some.pth", set())
            taken.append(time.perf_counter() - started)
    return Reading(median(taken) * 1e6)
