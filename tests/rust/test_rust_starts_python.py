"""Python functions as processes of a Rust program, which is `partner` here."""

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.support.rust_programs import rust_program, wait_for_end

WORKERS = """\
import fractions, os, sys, time
import procession

def answer(pair):
    questions, answers = pair
    count = 0
    while True:
        try:
            numbers = questions.get()
        except EOFError:
            return count
        answers.put({"sum": sum(numbers), "bytes": bytes(numbers)})
        count += 1

def put_anything(queue):
    for message in (1, fractions.Fraction(1, 2), "two", 3):
        queue.put(message)

def hold(go, lock, held):
    with lock:
        held.set()
        go.wait()
    return f"{type(go).__module__}.{type(go).__name__} {type(lock).__module__}.{type(lock).__name__}"

def settings():
    print(sys.stdin.read())
    return [procession.current_process().name, sys.argv[1:], os.environ["GREETING"], os.getcwd()]

def variables():
    return sorted(os.environ)

def fails():
    raise LookupError("no such \\ud800 thing")

def daemon(started):
    print(os.getpid(), flush=True)
    started.set()
    time.sleep(600)

def silent():
    raise ValueError

def exits(code):
    sys.exit(code)

def dies():
    os.kill(os.getpid(), 9)

def a_pool():
    with procession.Pool(2) as pool:
        return pool.map(abs, [-1, 2, -3])

def an_object():
    return {"halves": [fractions.Fraction(1, 2)]}

def keywords(*, data, scale):
    return [scale * item for item in data]

class Place:
    @staticmethod
    def name():
        return "a method"

number = 5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "workers.py").write_text(WORKERS)
    (folder / "broken.py").write_text("import not_there_either\n")
    return folder


def from_rust(folder: Path, part: str, *arguments: str, python: str = sys.executable) -> Any:
    """The partner's report about a Python process that it started."""
    done = subprocess.run(
        [rust_program("partner"), part, python, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python_call(folder: Path, module: str, function: str, args: Any = (), **options: Any) -> Any:
    return from_rust(folder, "call", module, function, json.dumps(args), **options)


def test_rust_calls_functions_of_python(folder: Path) -> None:
    """Functions of the standard library and of a module in the working directory; by position and by name."""
    assert python_call(folder, "math", "factorial", [10]) == {"returned": 3628800}
    assert python_call(folder, "builtins", "print", None) == {"returned": None}
    assert python_call(folder, "workers", "keywords", {"data": [1, 2], "scale": 2}) == {"returned": [2, 4]}
    assert python_call(folder, "workers", "Place.name") == {"returned": "a method"}
    assert python_call(folder, "os.path", "basename", ["a/b"]) == {"returned": "b"}


def test_a_python_process_of_rust_may_have_a_pool_of_its_own(folder: Path) -> None:
    """The child can do what any main process can."""
    assert python_call(folder, "workers", "a_pool") == {"returned": [1, 2, 3]}


def test_an_exception_comes_back_with_type_text_and_traceback(folder: Path) -> None:
    """Also one without a text, and one whose text is no UTF-8."""
    raised = python_call(folder, "workers", "fails")["raised"]
    assert (raised["kind"], raised["message"]) == ("LookupError", r"no such \ud800 thing")
    assert 'in fails\n    raise LookupError("no such' in raised["traceback"]
    assert "_core/rust/called" not in raised["traceback"]
    assert python_call(folder, "workers", "silent")["raised"]["message"] == ""
    raised = python_call(folder, "json", "loads", ["{"])["raised"]
    assert raised["kind"] == "json.decoder.JSONDecodeError"


def test_an_import_that_fails_is_an_exception_of_the_module(folder: Path) -> None:
    """Its own imports are not the module that was asked for."""
    raised = python_call(folder, "broken", "main")["raised"]
    assert raised["message"] == "No module named 'not_there_either'"


@pytest.mark.parametrize(
    ("module", "function", "why"),
    [
        ("worker", "answer", "there is no module 'worker' in ["),
        ("os.paths", "basename", "there is no module 'os.paths' in ["),
        ("math", "factorail", "there is no 'factorail' in module 'math'; did you mean 'factorial'?"),
        ("workers", "Place.nothing", "there is no 'Place.nothing' in module 'workers'"),
        ("workers", "number", "workers.number is a int and cannot be called"),
        ("workers", "an_object", "workers.an_object returned a Fraction, and Rust reads None, bool, int"),
    ],
)
def test_what_cannot_be_called_or_carried_is_told(folder: Path, module: str, function: str, why: str) -> None:
    """The error says what to do about it."""
    assert why in python_call(folder, module, function)["undelivered"]


def test_a_python_process_that_ends_before_its_function_returns(folder: Path) -> None:
    """The process ends by an exit code or by a signal."""
    assert python_call(folder, "workers", "exits", [3]) == {"exited": 3}
    assert python_call(folder, "workers", "dies") == {"killed": 9}
    before, was_alive, after = from_rust(folder, "kill")
    assert (before, was_alive, after) == (None, True, {"killed": 9})


def test_messages_and_the_end_of_a_python_process_can_be_selected(folder: Path) -> None:
    """Beside a queue of Rust."""
    assert from_rust(folder, "select") == ["Int(7)", 1]


def test_an_interpreter_that_is_missing_or_lacks_the_package(folder: Path, tmp_path: Path) -> None:
    """The error names it, and what to install."""
    nowhere = str(tmp_path / "python")
    assert python_call(folder, "math", "sqrt", [4], python=nowhere) == {"no interpreter": nowhere}
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    why = python_call(folder, "math", "sqrt", [4], python=str(bare))["undelivered"]
    assert "has no package procession that a Rust program can start (ModuleNotFoundError" in why
    assert f"-m pip install procession=={version('procession')}" in why


def test_arguments_that_are_no_call_are_refused_before_anything_starts(folder: Path) -> None:
    """The error explains what a call is."""
    one, numbered, keyed, message = from_rust(folder, "bad-arguments")
    assert "are a tuple, such as (5,) for one" in one
    assert "are a tuple, such as (5,) for one" in numbered
    assert "a list cannot be in the key of a dict" in keyed
    assert "a list cannot be in the key of a dict" in message
    assert "procession::python::Queue" in from_rust(folder, "own-queue")


def test_queues_events_and_locks_of_rust_are_pythons(folder: Path) -> None:
    """In both directions, inside other arguments too."""
    answers, count = from_rust(folder, "queues")
    assert count == 5
    assert answers[0] == "Int(1) Bytes([0, 1])"
    is_held, kinds, is_free = from_rust(folder, "event-and-lock")
    assert is_held and is_free
    assert kinds == "procession.synchronize.Event procession.synchronize.Lock"


def test_a_message_that_is_no_number_is_an_error_and_the_next_one_is_not(folder: Path) -> None:
    """As for queues that Python made."""
    first, pickled, text, last = from_rust(folder, "foreign-messages")
    assert (first, last) == (1, 3)
    assert "it is a pickle" in pickled
    assert "expected i64" in text


def test_a_python_process_finds_what_was_set_about_it(folder: Path) -> None:
    """Name, arguments, environment, directory and streams."""
    done = subprocess.run(
        [rust_program("partner"), "settings", sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert json.loads(done.stdout) == [
        "typed\n",
        ["scout", ["one", "two"], "hello", "/"],
    ], done.stderr


def test_a_python_process_has_the_environment_of_the_rust_program(folder: Path) -> None:
    """Programs that it starts inherit no trace of how it was started."""
    variables = python_call(folder, "workers", "variables")["returned"]
    ours = [name for name in variables if name.startswith("PROCESSION")]
    assert ours == sorted(name for name in os.environ if name.startswith("PROCESSION"))


def test_a_python_daemon_ends_with_the_rust_program_that_started_it(folder: Path) -> None:
    """Daemons end also if the program is killed; other children outlive it."""
    done = subprocess.run(
        [rust_program("partner"), "daemon", sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_for_end(int(done.stdout))


def test_rust_leaves_nothing_behind(folder: Path) -> None:
    """No process table entry, object, block or descriptor, whatever the outcome."""
    assert from_rust(folder, "nothing-left") is True
