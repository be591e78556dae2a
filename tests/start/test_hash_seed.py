"""A child has its parent's hashes of strings, whatever the start method."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import procession

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOME = os.path.dirname(os.path.dirname(os.path.abspath(procession.__file__)))

PROGRAM = """
import os, subprocess, sys
sys.path.insert(0, {home!r})
import procession

KEYS = ("LD_PRELOAD", "PROCESSION_HASH_SECRET")

def tell(queue, generations):
    if generations:
        return ask(queue, generations - 1)
    shell = subprocess.run(["sh", "-c", "echo $LD_PRELOAD $PROCESSION_HASH_SECRET"], stdout=subprocess.PIPE)
    queue.put((hash("a word"), [os.environ.get(key) for key in KEYS], shell.stdout.decode().split()))

def ask(queue, generations):
    child = procession.get_context({method!r}).Process(target=tell, args=(queue, generations))
    child.start()
    child.join()
    assert child.exitcode == 0, child.exitcode

if __name__ == "__main__":
    {before}
    queue = procession.Queue()
    for generations in (0, 1):
        ask(queue, generations)
        hashed, environment, inherited = queue.get()
        print(hashed == hash("a word"), environment, inherited)
"""


def said(run_script: Run, method: str, before: str = "pass", flags: tuple[str, ...] = ()) -> list[str]:
    """What the children of the program told."""
    done = run_script(PROGRAM.format(method=method, before=before, home=HOME), flags=flags)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_child_hashes_as_its_parent(run_script: Run, start_method: str) -> None:
    """So does a child's child, and the seed is in no process's environment."""
    assert said(run_script, start_method) == ["True [None, None] []"] * 2


@pytest.mark.parametrize("flag", ["-E", "-I", "-R"])
def test_options_of_the_interpreter_change_nothing(run_script: Run, start_method: str, flag: str) -> None:
    """Children get the parent's seed although these flags make an interpreter ignore or randomise it."""
    assert said(run_script, start_method, flags=(flag,)) == ["True [None, None] []"] * 2


def test_what_the_program_preloads_stays(
    run_script: Run, start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library in LD_PRELOAD stays preloaded in children, and in the programs they start."""
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    assert said(run_script, start_method) == ["True ['libm.so.6', None] ['libm.so.6']"] * 2


def test_a_library_that_draws_for_the_interpreter(run_script: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a preloaded library draws the secret, hashes differ, and children work as they should."""
    monkeypatch.setenv("LD_PRELOAD", "libc.so.6")
    assert said(run_script, "spawn") == ["False ['libc.so.6', None] ['libc.so.6']"] * 2


def test_a_seed_in_the_environment_is_the_childrens(run_script: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children start with the PYTHONHASHSEED that a program sets for them."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    expected = subprocess.run(
        [sys.executable, "-c", "print(hash('a word'))"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    before = f"os.environ['PYTHONHASHSEED'] = '7'; hash = lambda text: {int(expected.stdout)}"
    assert said(run_script, "spawn", before) == ["True [None, None] []"] * 2


def test_a_wrapper_that_starts_the_interpreter_works(
    run_script: Run, start_method: str, tmp_path: Path
) -> None:
    """A script in the interpreter's place is started as it is: it could not load an interpreter's module."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    lines = said(run_script, start_method, f"procession.set_executable({str(wrapper)!r})")
    assert [line.split(maxsplit=1)[1] for line in lines] == ["[None, None] []"] * 2


WATCHED = """
import functools, sys
sys.path.insert(0, {home!r})
import procession
from multiprocessing import util

started = []

@functools.wraps(util.spawnv_passfds)
def noted(path, args, passfds, start=util.spawnv_passfds):
    started.append(str(args))
    return start(path, args, passfds)

util.spawnv_passfds = noted

def tell(queue):
    queue.put(7)

if __name__ == "__main__":
    ctx = procession.get_context({method!r})
    queue = ctx.Queue()
    child = ctx.Process(target=tell, args=(queue,))
    child.start()
    print(queue.get(), any("procession" in command for command in started))
    child.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_tool_that_starts_the_interpreters_is_asked_to(run_script: Run, method: str) -> None:
    """A profiler that put a function of its own in the place of `util.spawnv_passfds` sees all children."""
    done = run_script(WATCHED.format(method=method, home=HOME))
    assert done.stdout.split() == ["7", "True"], done.stderr
