"""Counts the instructions of the hot paths at two commits: noise cannot hide a loss there.

    python benches/instructions.py              the working tree beside HEAD
    python benches/instructions.py 1a2b3c4      beside another commit

It builds both, and runs each path under callgrind (Debian's package valgrind) 500 and 2500 times: the
difference is the path alone, in one process with one thread that never sleeps. It fails if a path takes
3 % more.
"""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
FEW, MANY = 500, 2500
WORSE = 1.03

PATHS = {
    "Queue: put and get an int": ("q = mp.Queue()", "q.put(7); q.get()"),
    "Queue: put and get a dict of 4": ("q = mp.Queue()", "q.put(DICT); q.get()"),
    "Pipe: send and recv an int": ("r, w = mp.Pipe(False)", "w.send(7); r.recv()"),
    "Pipe: 1 KiB of bytes": ("r, w = mp.Pipe(False); b = bytes(1024)", "w.send_bytes(b); r.recv_bytes()"),
    "lock.acquire() and release()": ("lock = mp.Lock()", "lock.acquire(); lock.release()"),
    "lock.acquire(False) on a held lock": ("lock = mp.Lock(); lock.acquire()", "lock.acquire(False)"),
    "with lock:": ("lock = mp.Lock()", "\n  with lock: pass"),
    "Value += 1 under its lock": ("v = mp.Value('i')", "\n  with v.get_lock(): v.value += 1"),
    "Array[i]: a read and a write": ("a = mp.Array('i', 8)", "a[3] = a[3]"),
    "Event: set, wait, clear": ("e = mp.Event()", "e.set(); e.wait(); e.clear()"),
    "a manager's dict: set and get": (
        "import sys; mp.Lock(); native = next(m for name, m in list(sys.modules.items())"
        " if name.startswith('procession._') and hasattr(m, 'DictStore'));"
        " d = native.DictStore(); d.grow(64, 65536)",
        "d['key'] = 7; d['key']",
    ),
}

PROGRAM = """
import procession as mp
DICT = {{"id": 17, "name": "measurement", "value": 2.5, "ok": True}}
if __name__ == "__main__":
 {setup}
 for _ in range({count}): {statement}
"""


def count(tree, setup, statement, times):
    """All instructions of a program that does it so often."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(PROGRAM.format(setup=setup, statement=statement, count=times))
        valgrind = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            sys.executable,
            program,
        ]
        environment = {**os.environ, "PYTHONPATH": f"{tree}/python", "PYTHONHASHSEED": "1"}
        done = subprocess.run(valgrind, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise LookupError(f"{statement}: {done.stderr[-2000:]}")
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def of_one(tree, setup, statement):
    """The instructions that doing it once more takes."""
    more = count(tree, setup, statement, MANY) - count(tree, setup, statement, FEW)
    return more // (MANY - FEW)


def build(tree, name):
    """Puts the engine of a source tree beside its package.

    Each tree is built in a folder of its own: cargo would take one tree's crates for the other's.
    """
    environment = {**os.environ, "PYO3_BUILD_EXTENSION_MODULE": "1", "PYO3_PYTHON": sys.executable}
    environment["CARGO_TARGET_DIR"] = str(ROOT / "target" / "instructions" / name)
    command = ["cargo", "build", "--release", "--quiet", "--package", "procession-python"]
    subprocess.run(command, cwd=tree, env=environment, check=True)
    manifest = Path(tree, "crates", "python", "Cargo.toml").read_text()
    module = manifest.split("[lib]")[1].split('"')[1]
    built = Path(environment["CARGO_TARGET_DIR"], "release", f"lib{module}.so")
    Path(tree, "python", "procession", f"{module}.abi3.so").write_bytes(built.read_bytes())


@contextmanager
def source_of(commit):
    """The files of a commit; for None those of the working tree that git knows."""
    with tempfile.TemporaryDirectory() as folder:
        if commit is None:
            commit = subprocess.run(
                ["git", "stash", "create"], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
        archive = subprocess.run(
            ["git", "archive", commit or "HEAD"], cwd=ROOT, capture_output=True, check=True
        )
        # With new times: cargo rebuilds files that are newer than its last build.
        subprocess.run(["tar", "-x", "-m", "-C", folder], input=archive.stdout, check=True)
        yield folder


def main():
    other = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    with source_of(other) as before, source_of(None) as now:
        build(before, "before")
        build(now, "now")
        worse = []
        print(f"| instructions for one | {other} | now | ratio |\n|---|---|---|---|")
        for name, (setup, statement) in PATHS.items():
            try:
                counts = [of_one(tree, setup, statement) for tree in (before, now)]
            except LookupError as error:
                print(f"| {name} | not at both commits | | |", flush=True)
                print(error, file=sys.stderr)
                continue
            ratio = counts[1] / counts[0]
            print(f"| {name} | {counts[0]} | {counts[1]} | {ratio:.3f} |", flush=True)
            if ratio > WORSE:
                worse.append(name)
    if worse:
        raise SystemExit(f"takes more instructions than before: {', '.join(worse)}")


if __name__ == "__main__":
    main()
