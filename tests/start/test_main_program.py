"""Children get the definitions of the main program, however that program was started."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import procession

HOME = Path(procession.__file__).parent.parent

# Functions of the main program as tasks and targets, its classes as arguments and results.
PROGRAM = """
import sys
import procession as multiprocessing


class Thing:
    def __init__(self, n):
        self.n = n


def twice(thing):
    return Thing(2 * thing.n)


def put(queue):
    queue.put(Thing(3))


def nested(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply(twice, (Thing(5),))


def main(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    queue.put(Thing(1))
    process = context.Process(target=put, args=(queue,))
    process.start()
    process.join()
    things = [queue.get(), queue.get()]
    with context.Pool(2) as pool:
        things += pool.map(twice, [Thing(2), Thing(3)])
        things.append(pool.apply(nested, (method,)))
    assert all(type(thing) is Thing for thing in things), things
    print("things", *[thing.n for thing in things])


if __name__ == "__main__":
    main(METHOD)
"""
THINGS = "things 1 3 4 6 10"

# Runs the program with functions of its own in the way of what that does.
TOOL = """
import runpy
import procession


def noted(process):
    start(process)


start = procession.process.BaseProcess.start
if __name__ == "__main__":
    procession.process.BaseProcess.start = noted
    runpy.run_module("shop.program", run_name="__main__", alter_sys=True)
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `python` with arguments in a folder of its own, with the package importable."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HOME)},
            **options,
        )

    return run


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


WAYS = {
    "a script": ["program.py"],
    "a module": ["-m", "shop.program"],
    "a package": ["-m", "shop"],
    "a folder": ["shop"],
    "a zip file": ["shop.zip"],
    "a module in a zip file": ["-c", "import sys; sys.path[0] = 'shop.zip'; import runpy; "
    "runpy._run_module_as_main('program')"],
    "-c": ["-c", "PROGRAM"],
    "standard input": ["-"],
    "cProfile": ["-m", "cProfile", "program.py"],
    "cProfile of a module": ["-m", "cProfile", "-m", "shop.program"],
    "profile": ["-m", "profile", "program.py"],
    "trace": ["-m", "trace", "--listfuncs", "program.py"],
    "pdb": ["-m", "pdb", "-c", "continue", "program.py"],
    "runpy": ["-c", "import procession, runpy; runpy.run_path('program.py', run_name='__main__')"],
    "runpy as a program": ["-m", "runpy", "shop"],
    "a tool": ["tool.py"],
}  # fmt: skip


LAUNCHED = ("a script", "a package", "-c", "cProfile", "a tool")
# A forked child has everything of the main program that its parent can name.
IN_ANOTHERS_PLACE = ("cProfile", "cProfile of a module", "profile", "trace", "a tool")
PICKLING = ("spawn", "forkserver")


@pytest.mark.parametrize(
    ("way", "start_method", "launcher"),
    [(way, "fork", ()) for way in ("a script", *IN_ANOTHERS_PLACE)]
    + [("cProfile", "fork", ("-m", "procession"))]
    + [(way, method, ()) for way in WAYS for method in PICKLING]
    + [(way, method, ("-m", "procession")) for way in LAUNCHED for method in PICKLING],
)
def test_what_the_main_program_defines_reaches_its_children(
    run: Run, tmp_path: Path, start_method: str, way: str, launcher: tuple[str, ...]
) -> None:
    """As a script, a module, a package, a zip file, a text, or under a profiler or a debugger."""
    program = PROGRAM.replace("METHOD", repr(start_method))
    write(tmp_path / "tool.py", TOOL)
    write(tmp_path / "program.py", program)
    write(tmp_path / "shop" / "__init__.py", "")
    write(tmp_path / "shop" / "__main__.py", program)
    write(tmp_path / "shop" / "program.py", program)
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as packed:
        packed.writestr("__main__.py", program)
        packed.writestr("program.py", program)
    command = [program if part == "PROGRAM" else part for part in WAYS[way]]
    done = run(*launcher, *command, input=program if command == ["-"] else "q\n")
    assert THINGS in done.stdout.splitlines(), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


# Each of these is done before the program goes on.
DELETED = "os.unlink(__file__)"
MOVED = "os.rename(__file__, __file__ + '.old')"
WITH_ITS_FOLDER = "import shutil; shutil.rmtree(os.path.dirname(os.path.abspath(__file__)))"
ZIP_DELETED = "os.unlink(sys.argv[0])"
DIRECTORY_IS_GONE = "where = tempfile.mkdtemp(); os.chdir(where); os.rmdir(where)"


@pytest.mark.parametrize(
    ("way", "loss"),
    [
        ("a script", DELETED),
        ("a script", DIRECTORY_IS_GONE),
        ("a module", MOVED),
        ("a package", WITH_ITS_FOLDER),
        ("a package", DIRECTORY_IS_GONE),
        ("a zip file", ZIP_DELETED),
        ("cProfile", DELETED),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize("start_method", PICKLING)
def test_a_main_program_whose_file_or_directory_is_gone(
    run: Run, tmp_path: Path, start_method: str, way: str, loss: str
) -> None:
    """Its children have the code that runs in the parent."""
    program = PROGRAM.replace("METHOD", repr(start_method)).replace(
        'if __name__ == "__main__":', f'if __name__ == "__main__":\n    import os, tempfile\n    {loss}'
    )
    folder = tmp_path / "folder"
    write(folder / "program.py", program)
    write(folder / "shop" / "__init__.py", "")
    write(folder / "shop" / "__main__.py", program)
    write(folder / "shop" / "program.py", program)
    with zipfile.ZipFile(folder / "shop.zip", "w") as packed:
        packed.writestr("__main__.py", program)
    done = subprocess.run(
        [sys.executable, *WAYS[way]],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{HOME}{os.pathsep}{folder}"},
    )
    assert THINGS in done.stdout.splitlines(), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


UNGUARDED = """
import procession as multiprocessing
print("main part")
with multiprocessing.get_context({method!r}).Pool(1) as pool:
    print(pool.map(abs, [-1, 2]))
"""


@pytest.mark.parametrize("way", ["a package", "a folder", "-c", "standard input", "a zip file"])
@pytest.mark.parametrize("start_method", PICKLING)
def test_a_main_program_that_children_do_not_need_runs_once(
    run: Run, tmp_path: Path, start_method: str, way: str
) -> None:
    """A `__main__.py` or a text without `if __name__ == "__main__"` may use functions of other modules."""
    program = UNGUARDED.format(method=start_method)
    write(tmp_path / "shop" / "__init__.py", "")
    write(tmp_path / "shop" / "__main__.py", program)
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as packed:
        packed.writestr("__main__.py", program)
    command = [program if part == "PROGRAM" else part for part in WAYS[way]]
    done = run("-u", *command, input=program if command == ["-"] else "")
    assert (done.stdout, done.stderr) == ("main part\n[1, 2]\n", "")


def test_a_main_program_without_a_guard_that_children_need_is_told_so(run: Run) -> None:
    """The error of the task names the guard and what went wrong, each time."""
    program = """
import procession as multiprocessing

def twice(n):
    return 2 * n

with multiprocessing.get_context("spawn").Pool(1) as pool:
    for _ in range(2):
        try:
            pool.apply(twice, (1,))
        except ImportError as error:
            print('if __name__ == "__main__":' in str(error), "RuntimeError" in str(error))
"""
    done = run("-c", program)
    assert (done.stdout, done.stderr) == ("True True\n" * 2, "")


@pytest.mark.parametrize("change", ["del sys.modules['__main__']", "sys.modules['__main__'] = object()"])
def test_children_of_a_program_without_a_main_module(
    run: Run, tmp_path: Path, start_method: str, change: str
) -> None:
    """A host that took `__main__` away can start processes with functions of modules."""
    write(
        tmp_path / "script.py",
        f"""
import sys
import procession as multiprocessing

if __name__ == "__main__":
    context = multiprocessing.get_context({start_method!r})
    queue = context.Queue()
    main = sys.modules["__main__"]
    {change}
    changed = sys.modules.get("__main__")
    process = context.Process(target=queue.put, args=(42,))
    process.start()
    process.join()
    print(queue.get(timeout=30), process.exitcode, sys.modules.get("__main__") is changed)
    sys.modules["__main__"] = main
""",
    )
    done = run("script.py")
    assert (done.stdout, done.stderr) == ("42 0 True\n", "")


@pytest.mark.parametrize("start_method", PICKLING)
def test_modules_in_the_working_directory_are_not_taken_for_the_stdlibs(
    run: Run, tmp_path: Path, start_method: str
) -> None:
    """A script's children load what the script would: its directory counts, not the one it was started in."""
    for name in ("socket", "pickle", "procession", "selectors"):
        write(tmp_path / f"{name}.py", "raise SystemExit('the wrong module')")
    write(
        tmp_path / "elsewhere" / "script.py",
        f"""
import procession
if __name__ == "__main__":
    with procession.get_context({start_method!r}).Pool(1) as pool:
        print(pool.apply(abs, (-1,)))
""",
    )
    done = run("elsewhere/script.py")
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_frozen_program_is_its_own_interpreter(run: Run, tmp_path: Path, start_method: str) -> None:
    """Its children, and its fork server, are itself once more, up to `freeze_support`."""
    frozen = tmp_path / "frozen"
    frozen.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "program.py"} "$@"\n')
    frozen.chmod(0o755)
    program = PROGRAM.replace("METHOD", repr(start_method)).replace(
        'if __name__ == "__main__":\n',
        'if __name__ == "__main__":\n    multiprocessing.freeze_support()\n    print("main part")\n',
    )
    begin = f"import sys\nsys.frozen = True\nimport procession\nprocession.set_executable({str(frozen)!r})\n"
    write(tmp_path / "program.py", begin + program)
    done = run("program.py")
    assert done.stdout.splitlines() == ["main part", THINGS], done.stdout + done.stderr
    assert done.stderr == ""
