"""The preloaded fork server: the main program is imported once, where that is safe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import connection, forkserver

Run = Callable[..., subprocess.CompletedProcess[str]]

# A main program that prints its name whenever it is run, and starts three processes that print `told`.
SCRIPT = """
import logging, os, random, socket, sys, threading
import procession

print(__name__, flush=True)
{at_import}

def tell():
    print({told}, flush=True)

if __name__ == "__main__":
    procession.log_to_stderr({level})
    context = procession.get_context("forkserver"{options})
    for _ in range(3):
        process = context.Process(target=tell)
        process.start()
        process.join()
"""

WARM = ["__main__", "__mp_main__"]
COLD = ["__main__", *["__mp_main__"] * 3]


def script(told: str, at_import: str = "", options: str = "", level: str = "logging.ERROR") -> str:
    return SCRIPT.format(told=told, at_import=textwrap.dedent(at_import), options=options, level=level)


def test_the_main_program_is_imported_once(run_script: Run) -> None:
    """The server's children find it there and do not run it again."""
    done = run_script(script("'told'"))
    assert done.stdout.split() == [*WARM, *["told"] * 3]
    assert done.stderr == ""


def test_children_see_the_arguments_path_and_directory_of_the_program(
    run_script: Run, tmp_path: Path
) -> None:
    """`sys.argv`, `sys.path` and the working directory are the parent's, in the server and in a child."""
    (tmp_path / "elsewhere").mkdir()
    at_import = """
        if __name__ == "__main__":
            os.chdir("elsewhere")
            sys.path.append("added by the program")
        seen = sys.argv[1:], sys.path[-1], os.path.basename(os.getcwd())
    """
    told = "seen == (sys.argv[1:], sys.path[-1], os.path.basename(os.getcwd())), seen"
    done = run_script(script(told, at_import), "an", "argument")
    line = "True (['an', 'argument'], 'added by the program', 'elsewhere')"
    assert done.stdout.splitlines() == [*WARM, *[line] * 3]


def test_each_child_follows_the_directory_and_the_path_of_its_start(run_script: Run) -> None:
    """What the parent changed since the server was started reaches the next child."""
    done = run_script(
        """
        import os, sys, procession

        def tell():
            print(os.getcwd(), sys.argv[1:], sys.path[-1], flush=True)

        if __name__ == "__main__":
            for change in "/", "/proc":
                os.chdir(change)
                sys.argv[1:] = [change]
                sys.path.append(change)
                process = procession.get_context("forkserver").Process(target=tell)
                process.start()
                process.join()
        """
    )
    assert done.stdout.splitlines() == ["/ ['/'] /", "/proc ['/proc'] /proc"]


def test_children_draw_different_random_numbers(run_script: Run) -> None:
    """`random` and `numpy.random` are seeded anew in each child of a program that does not seed them."""
    pytest.importorskip("numpy")
    done = run_script(script("random.random(), numpy.random.random()", "import numpy"))
    *names, one, two, three = done.stdout.splitlines()
    assert names == WARM
    assert len({line.split()[0] for line in (one, two, three)}) == 3
    assert len({line.split()[1] for line in (one, two, three)}) == 3


def test_a_seed_of_the_main_program_is_each_childs(run_script: Run) -> None:
    """A program that seeds its generators when it is imported has in its children what it asked for."""
    pytest.importorskip("numpy")
    at_import = """
        import numpy
        random.seed(7)
        numpy.random.seed(7)
        expected = random.Random(7).random(), numpy.random.RandomState(7).random()
    """
    done = run_script(script("(random.random(), numpy.random.random()) == expected", at_import))
    assert done.stdout.split().count("True") == 3


OWN = [
    "own = os.getpid()",
    "own = f'{time.time_ns()}'",
    "own = datetime.datetime.now()",
    "own = uuid.uuid4()",
    "own = secrets.token_hex()",
    "own = secrets.choice(range(10**9))",
    "own = tempfile.TemporaryDirectory().name",
    "own = random.random()",
    "own = random.Random().random()",
    "own = tempfile.mkdtemp(dir='.')",
    "own = procession.current_process().name",
    "def name(): return os.urandom(8).hex()\n\nown = name()",
    "import settings; own = settings.own",
    "import numpy; generator = numpy.random.default_rng(); own = generator",
]


@pytest.mark.parametrize("at_import", OWN)
def test_what_a_program_computes_of_itself_when_it_is_imported_is_each_childs(
    run_script: Run, tmp_path: Path, at_import: str
) -> None:
    """Process numbers, times, unique names and unseeded generators are not those of the server."""
    if "numpy" in at_import:
        pytest.importorskip("numpy")
    (tmp_path / "settings.py").write_text("import uuid\n\nown = uuid.uuid4()\n")
    at_import = f"import datetime, secrets, tempfile, time, uuid\n{at_import}"
    done = run_script(script("own.random() if 'generator' in globals() else own", at_import))
    told = [line for line in done.stdout.splitlines() if line not in WARM]
    assert len(told) == 3 and len(set(told)) == 3, done.stdout


def test_what_a_cold_start_imports_was_imported_in_the_server(run_script: Run) -> None:
    """Children that import the main program for themselves find there the libraries that it imports."""
    at_import = """
        already = "decimal" in sys.modules
        import decimal
        own = os.getpid()
    """
    done = run_script(script("already, own == os.getpid()", at_import))
    assert done.stdout.splitlines().count("True True") == 3


def test_clocks_and_numbers_that_functions_ask_for_leave_starts_warm(run_script: Run) -> None:
    """Only what is asked for while the main program is imported counts, and only by the program."""
    at_import = """
        import logging, time, uuid

        logging.getLogger().setLevel("ERROR")
        logging.info("something happens at a time")
        lock = procession.Lock()

        def own():
            return os.getpid(), time.time(), uuid.uuid4()
    """
    done = run_script(script("'told'", at_import))
    assert done.stdout.split() == [*WARM, *["told"] * 3]


@pytest.mark.parametrize("own", ["", "own = os.getpid()"], ids=["warm", "cold"])
def test_exit_functions_of_the_main_program_run_in_each_child(run_script: Run, own: str) -> None:
    """What a program registers when it is imported runs at the end of its processes, not of the server."""
    at_import = f"""
        import atexit

        atexit.register(lambda: print("ends", os.getpid(), flush=True))
        {own}
    """
    done = run_script(script("'child', os.getpid()", at_import))
    children = re.findall(r"child (\d+)", done.stdout)
    assert len(children) == 3
    ended = re.findall(r"ends (\d+)", done.stdout)
    assert ended[:-1] == children and len(ended) == 4


def test_a_server_without_proc_starts_processes(run_script: Run) -> None:
    """Without /proc the server cannot check what the main program left, so each child imports it."""
    at_import = """
        def refuse(path, *args, **kwds):
            if str(path).startswith("/proc"):
                raise FileNotFoundError(path)
            return original[args[0]](path, *args[1:], **kwds)

        import functools
        if __name__ != "__main__":
            original = {name: getattr(os, name) for name in ("listdir", "readlink", "open")}
            for name in original:
                setattr(os, name, functools.wraps(original[name])(
                    lambda path, *args, name=name, **kwds: refuse(path, name, *args, **kwds)))
    """
    done = run_script(script("'told'", at_import))
    assert done.stdout.split() == [*WARM, *["__mp_main__", "told"] * 3], done.stderr


@pytest.mark.parametrize(
    ("at_import", "reason"),
    [
        ("threading.Thread(target=threading.Event().wait, name='waits', daemon=True).start()", "waits"),
        ("listener = socket.socket()", "1 open socket"),
        ("ends = socket.socketpair()", "2 open sockets"),
    ],
    ids=["thread", "socket", "sockets"],
)
def test_what_a_fork_would_break_makes_starts_cold(run_script: Run, at_import: str, reason: str) -> None:
    """A main program that starts a thread or opens a socket is imported by each child; a log line says so."""
    done = run_script(script("'told'", at_import, level="logging.INFO"))
    # The server tried it once, and is not asked again.
    assert done.stdout.split() == [*WARM, "__mp_main__", "told", "__mp_main__", "told", "__mp_main__", "told"]
    lines = [line for line in done.stderr.splitlines() if "start cold" in line]
    assert len(lines) == 1 and reason in lines[0]


def test_without_logging_a_cold_start_is_silent(run_script: Run) -> None:
    """Nothing is printed that the program did not ask for."""
    done = run_script(script("'told'", "listener = socket.socket()"))
    assert done.stdout.split().count("told") == 3 and done.stderr == ""


def test_a_changed_main_program_is_imported_again(run_script: Run) -> None:
    """A server that loaded another version of the file is not used any more."""
    done = run_script(
        """
        import os, procession

        VERSION = 1

        def tell():
            print(VERSION, flush=True)

        if __name__ == "__main__":
            def start():
                process = procession.get_context("forkserver").Process(target=tell)
                process.start()
                process.join()

            start()
            with open(__file__) as file:
                text = file.read()
            with open(__file__, "w") as file:
                file.write(text.replace("VERSION = 1", "VERSION = 22"))
            start()
            start()
        """
    )
    assert done.stdout.split() == ["1", "22", "22"], done.stderr


@pytest.mark.parametrize("how", ["get_context", "set_start_method", "environment"])
def test_a_cold_start_can_be_chosen(run_script: Run, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """With `forkserver_main="cold"`, or the environment variable, every child imports the main program."""
    options, at_import = "", ""
    if how == "get_context":
        options = ', forkserver_main="cold"'
    elif how == "set_start_method":
        at_import = """
            if __name__ == "__main__":
                procession.set_start_method("forkserver", forkserver_main="cold")
        """
    else:
        monkeypatch.setenv(forkserver.MAIN_VARIABLE, "cold")
    done = run_script(script("'told'", at_import, options))
    assert done.stdout.split() == ["__main__", *["__mp_main__", "told"] * 3]


def test_the_choice_may_be_changed(run_script: Run) -> None:
    """From warm to cold and back, in one program."""
    done = run_script(
        """
        import procession

        print(__name__, flush=True)

        if __name__ == "__main__":
            for mode in "warm", "warm", "cold", "cold", "warm":
                context = procession.get_context("forkserver", forkserver_main=mode)
                process = context.Process(target=print, args=(mode,), kwargs={"flush": True})
                process.start()
                process.join()
        """
    )
    expected = "__main__ __mp_main__ warm warm __mp_main__ cold __mp_main__ cold __mp_main__ warm"
    assert done.stdout.split() == expected.split()


def test_an_unknown_choice_is_refused(monkeypatch: pytest.MonkeyPatch, fresh_server: Any) -> None:
    """The error lists the choices."""
    with pytest.raises(ValueError, match="'warm' or 'cold', not 'hot'"):
        procession.get_context("forkserver", forkserver_main="hot")
    monkeypatch.setenv(forkserver.MAIN_VARIABLE, "hot")
    with pytest.raises(ValueError, match="PROCESSION_FORKSERVER_MAIN must be 'warm' or 'cold'"):
        procession.get_context("forkserver").Process(target=print).start()


@pytest.mark.parametrize("on_error", ["ignore", "warn", "fail"])
def test_a_module_that_cannot_be_preloaded(run_script: Run, on_error: str) -> None:
    """It is ignored, warned of, or keeps every process from being started."""
    done = run_script(
        f"""
        import procession

        if __name__ == "__main__":
            procession.set_forkserver_preload(["no_such_module"], on_error="{on_error}")
            process = procession.get_context("forkserver").Process(target=print, args=("child",))
            try:
                process.start()
                process.join()
            except EOFError:
                print("EOFError")
        """,
        flags=("-W", "always"),
    )
    assert done.stdout.split() == ["EOFError" if on_error == "fail" else "child"]
    assert ("ImportWarning" in done.stderr) == (on_error == "warn")
    assert ("ModuleNotFoundError" in done.stderr) == (on_error == "fail")


def test_an_unknown_way_with_errors_is_refused() -> None:
    """The error lists the choices."""
    with pytest.raises(ValueError, match="one of ignore, warn, fail, not 'raise'"):
        procession.set_forkserver_preload(["os"], on_error="raise")


def test_a_childs_number_is_its_own_until_it_is_joined(fresh_server: Any) -> None:
    """As with fork, a signal to a child that has ended meets nobody else."""
    process = procession.get_context("forkserver").Process(target=os.getpid)
    process.start()
    connection.wait([process.sentinel])
    os.kill(process.pid, signal.SIGUSR1)
    process.join()
    assert process.exitcode == 0
    # And no zombie stays behind.
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(process.pid, 0)


def test_threads_of_numpy_do_not_make_starts_cold(run_script: Run) -> None:
    """Its library stops them around a fork by itself."""
    pytest.importorskip("numpy")
    done = run_script(script("'told'", "import numpy"))
    assert done.stdout.split() == [*WARM, *["told"] * 3], (done.stderr, sys.version)


def test_a_program_that_ignores_sigchld_learns_exit_codes(run_script: Run) -> None:
    """The server inherits the choice, and must not."""
    done = run_script(
        """
        import signal, sys, procession

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        if __name__ == "__main__":
            for _ in range(2):
                process = procession.get_context("forkserver").Process(target=sys.exit, args=(7,))
                process.start()
                process.join()
                print(process.exitcode)
        """
    )
    assert done.stdout.split() == ["7", "7"], done.stderr


def test_the_exit_code_of_a_replaced_servers_last_child(run_script: Run) -> None:
    """Its exit code is known, though no process is left that could use that server."""
    done = run_script(
        """
        import sys, procession

        if __name__ == "__main__":
            processes = []
            for turn in range(6):
                context = procession.get_context("forkserver", forkserver_main=["warm", "cold"][turn % 2])
                processes.append(context.Process(target=sys.exit, args=(7,)))
                processes[-1].start()
            for process in processes:
                process.join()
            print(*(process.exitcode for process in processes))
        """
    )
    assert done.stdout.split() == ["7"] * 6, done.stderr
