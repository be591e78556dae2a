"""Rust functions as processes of Python programs, Python functions as processes of Rust programs."""

import fractions
import gc
import json
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from rust_programs import rust_program
from wire_values import edges, patient, plain, portrait

import procession
from procession import _engine
from procession.rust import Panic, Process, RustError


def call(function: str, *args: Any, **options: Any) -> Any:
    """What a function of the partner returns."""
    process = Process(rust_program("partner"), function, args, **options)
    process.start()
    try:
        return process.result(60)
    finally:
        process.close()


def test_a_function_of_a_rust_program_returns_its_result() -> None:
    """Under its name, the name it was given, or its path."""
    assert call("square", 12) == 144
    assert call("renamed", -3) == 9
    assert call("add", 1, 2.5) == 3.5
    assert call("nothing") is None
    assert call("names::of_a_module") == "found"


def test_it_is_a_process_like_others() -> None:
    """Started, alive, joined, with a name, a number, an exit code and a sentinel."""
    started = procession.Event()
    process = Process(rust_program("partner"), "wait_for_ever", (started,), name="counter", daemon=True)
    assert (process.exitcode, process.is_alive(), process.name) == (None, False, "counter")
    process.start()
    assert started.wait(60)
    assert process in procession.active_children()
    assert process.is_alive() and process.daemon
    with pytest.raises(procession.TimeoutError, match="counter has not ended"):
        process.result(timeout=0)
    process.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGTERM
    process.close()


def test_the_process_has_name_arguments_environment_and_directory(tmp_path: Path) -> None:
    """What the program is to find around it."""
    assert call("process_name", name="scout") == "scout"
    assert call("argv", argv=["--one", "two"]) == ["--one", "two"]
    assert call("variable", "GREETING", env={"GREETING": "hello"}) == "hello"
    assert call("variable", "PATH", env={"PATH": None}) is None
    assert call("directory", cwd=tmp_path) == str(tmp_path)
    assert call("pid") != os.getpid()


def test_an_executable_is_found_in_the_path_and_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell finds it, also if the process starts elsewhere."""
    folder = os.path.dirname(rust_program("partner"))
    monkeypatch.setenv("PATH", folder)
    process = Process("partner", "square", (2,))
    process.start()
    assert process.result(60) == 4
    monkeypatch.chdir(folder)
    process = Process("./partner", "square", (3,), cwd="/")
    process.start()
    assert process.result(60) == 9


def test_a_panic_comes_back_with_message_and_place() -> None:
    """And with its backtrace, also through pickle; the exit code is Rust's."""
    process = Process(rust_program("partner"), "fail", ("out of cheese",), env={"RUST_BACKTRACE": "1"})
    process.start()
    with pytest.raises(Panic, match="out of cheese") as raised:
        process.result(60)
    panic = pickle.loads(pickle.dumps(raised.value))
    assert panic.message == "out of cheese"
    assert "exports.rs:" in panic.location
    assert "fail" in panic.backtrace
    assert str(panic) == f"panicked at {panic.location}: out of cheese"
    assert process.exitcode == 101
    with pytest.raises(Panic):
        process.result()


@pytest.mark.parametrize(
    ("code", "how"),
    [(3, "exited with status 3"), (-9, "was killed by signal 9"), (0, "exited with status 0")],
)
def test_a_process_that_ends_before_its_function_returns_is_an_error(code: int, how: str) -> None:
    """Which says how it ended."""
    process = Process(rust_program("partner"), "end_with", (code,))
    process.start()
    with pytest.raises(procession.WorkerDied, match=f"{how} before end_with returned") as raised:
        process.result(60)
    assert raised.value.exitcode == process.exitcode == code


def test_an_unknown_function_names_the_known_ones() -> None:
    """All that the program exports."""
    with pytest.raises(RustError, match=r"exports no function squar; it has add, .*square"):
        call("squar", 4)


@pytest.mark.parametrize(
    ("function", "args", "why"),
    [
        ("square", (), "square takes one argument, and 0 came"),
        ("add", (1, 2, 3), "add takes 2 arguments, and 3 came"),
        ("nothing", (1,), "nothing takes no arguments, and 1 came"),
        ("square", ("4",), "not square's: .* expected i64"),
        ("square", (2**63,), "not square's: .*9223372036854775808"),
        ("square", (2**200,), "an int of 26 bytes"),
    ],
)
def test_arguments_that_do_not_fit_are_an_error(function: str, args: tuple[Any, ...], why: str) -> None:
    """Which says what is wanted and what came."""
    with pytest.raises(RustError, match=why):
        call(function, *args)


def test_what_is_no_plain_data_is_refused_at_the_start() -> None:
    """With its type, however deep it is; nothing is started."""
    for args in [(fractions.Fraction(1, 2),), ([{"half": fractions.Fraction(1, 2)}],)]:
        process = Process(rust_program("partner"), "echo", args)
        with pytest.raises(TypeError, match="a Fraction cannot be an argument of a Rust function"):
            process.start()
        assert process.pid is None
    with pytest.raises(TypeError, match="half of a surrogate pair"):
        call("echo", "\ud800")
    endless: list[Any] = [procession.Event()]
    endless.append(endless)
    with pytest.raises(TypeError, match="nested deeper than 100"):
        call("echo", endless)


def test_a_list_that_holds_itself_has_no_place_in_rust() -> None:
    """Python's messages have cycles, Rust's values do not."""
    endless: list[Any] = [1]
    endless.append(endless)
    with pytest.raises(RustError, match="holds itself"):
        call("echo", endless)


def test_a_result_that_python_does_not_have_is_an_error() -> None:
    """Keys of a dict need a hash."""
    with pytest.raises(RustError, match="not_for_python returned cannot go to Python: .*a list cannot be"):
        call("not_for_python")


def test_every_shape_of_serde_is_what_it_should_be_in_python() -> None:
    """And is read back as what it was."""
    everything = call("shapes", None)
    assert everything == {
        "unit": None,
        "flags": (True, False),
        "smallest": -(2**127),
        "largest": 2**128 - 1,
        "letter": "é",
        "bytes": b"\x00\xff",
        "numbers": [0, 255],
        "array": (1, 65535),
        "maybe": "text",
        "names": {(-1, "a"): 1.5},
        "shapes": [
            "Empty",
            {"Circle": 0.5},
            {"Segment": (-1, 1)},
            {"Rectangle": {"width": 2, "height": 3}},
        ],
        "result": {"Err": "no"},
    }
    assert type(everything["bytes"]) is bytes and type(everything["array"]) is tuple
    assert call("shapes", everything) == everything


class Echo:
    """A Rust process that sends messages back."""

    def __init__(self) -> None:
        self.there: Any = procession.Queue()
        self.back: Any = procession.Queue()
        self.process = Process(rust_program("partner"), "echo_messages", (self.there, self.back))

    def __enter__(self) -> "Echo":
        self.process.start()
        return self

    def through(self, value: Any) -> Any:
        """What comes back."""
        self.there.put(value)
        return self.back.get(timeout=60)

    def __exit__(self, *exc_info: object) -> None:
        self.there._close_for_all()
        assert self.process.result(60) is None


def as_rust_has_it(value: Any, in_key: bool = False) -> Any:
    """A value with its containers as the partner sends them."""
    kind = type(value)
    if kind is bytearray:
        return bytes(value)
    if kind in (tuple, list, set, frozenset):
        items = [as_rust_has_it(item, in_key) for item in value]
        return tuple(items) if in_key else items
    if kind is dict:
        return {as_rust_has_it(key, True): as_rust_has_it(item) for key, item in value.items()}
    return value


def is_small(value: Any) -> bool:
    """Whether Rust has room for all ints in a value."""
    if type(value) is dict:
        return all(is_small(key) and is_small(item) for key, item in value.items())
    if type(value) in (tuple, list, set, frozenset):
        return all(map(is_small, value))
    return type(value) is not int or -(2**127) <= value < 2**128


def test_what_rust_reads_and_writes_is_what_python_wrote() -> None:
    """To the last bit, whatever the value."""
    with Echo() as echo:

        @patient
        @given(plain.filter(is_small))
        def comes_back(value: Any) -> None:
            assert portrait(echo.through(value)) == portrait(as_rust_has_it(value))

        comes_back()


def test_edges_and_references_come_back() -> None:
    """Ints of all sizes; strings and lists that Python's messages have only once."""
    with Echo() as echo:
        small = [n for n in edges if is_small(n)]
        assert echo.through(small) == small
        rows = [{"identifier": n, "name": "somebody" * 20, "tags": small[:3]} for n in range(1000)]
        assert echo.through(rows) == rows
        shared = ["x" * 100]
        assert echo.through([shared, shared, {"again": shared}]) == [shared, shared, {"again": shared}]
        large = os.urandom(3 << 20)
        assert echo.through(large) == large
        assert math.isnan(echo.through(math.nan))


def test_a_message_that_is_a_pickle_is_an_error_and_the_next_one_is_not() -> None:
    """The queue goes on, and says what it could not read."""
    queue: Any = procession.Queue()
    for message in (1, fractions.Fraction(1, 2), "two", 2**64, 3):
        queue.put(message)
    first, pickled, text, large, last = call("numbers", queue, 5)
    assert (first, last) == ({"Ok": 1}, {"Ok": 3})
    assert "it is a pickle, which only Python reads" in pickled["Err"]
    assert "expected i64" in text["Err"]
    assert "18446744073709551616" in large["Err"]


def test_events_and_locks_are_shared_wherever_they_are_in_the_arguments() -> None:
    """And a lock that a killed Rust process held is Python's as any other."""
    go, back = procession.Event(), procession.Event()
    process = Process(rust_program("partner"), "wait_for", (go, {"back": back}))
    process.start()
    assert not back.is_set()
    go.set()
    process.result(60)
    assert back.is_set()

    lock, entered, leave = procession.Lock(), procession.Event(), procession.Event()
    process = Process(rust_program("partner"), "inside", (lock, entered, leave))
    process.start()
    assert entered.wait(60)
    assert not lock.acquire(block=False)
    process.kill()
    process.join(60)
    with pytest.raises(procession.OwnerDied):
        lock.acquire(timeout=60)


def test_an_object_of_another_kind_is_refused() -> None:
    """By the type that the function has there; Rust's own queue is another kind, too."""
    with pytest.raises(RustError, match="this handle names a queue, not a event"):
        call("wait_for", procession.Queue(), {})
    with pytest.raises(RustError, match="procession::python::Queue, an Event, a Lock or an RLock"):
        call("own_queue", procession.Queue())
    with pytest.raises(RustError, match="expected an object of the kind Event"):
        call("wait_for", 5, {})


def test_a_program_without_procession_is_refused() -> None:
    """It would do what it does for anybody."""
    process = Process("sleep", "square", (4,))
    with pytest.raises(RustError, match="has nothing of Procession in it; a program that Python starts"):
        process.start()


def test_a_program_that_does_not_look_at_its_order_is_an_error(tmp_path: Path) -> None:
    """A script, say, that could have run another one."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    process = Process(script, "square", (4,))
    process.start()
    with pytest.raises(RustError, match="did not look at what it was started for; .*procession::init()"):
        process.result(60)


def test_a_script_may_run_the_program_in_the_end(tmp_path: Path) -> None:
    """Environment and descriptors are passed on."""
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\nexec {rust_program('partner')}\n")
    script.chmod(0o755)
    process = Process(script, "square", (4,))
    process.start()
    assert process.result(60) == 16


def test_a_missing_executable_and_one_that_is_none(tmp_path: Path) -> None:
    """The usual errors, with the path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Process(tmp_path / "nowhere", "square", (4,)).start()
    data = tmp_path / "data"
    data.write_text("")
    with pytest.raises(PermissionError, match="data"):
        Process(data, "square", (4,)).start()


def test_a_rust_function_is_not_run_here() -> None:
    """`run` is what other processes run in the child."""
    with pytest.raises(NotImplementedError, match="start"):
        Process("program", "square", (4,)).run()


def round_of_everything() -> None:
    queue = procession.Queue()
    queue.put(1)
    call("numbers", queue, 1)
    for bad in (lambda: call("fail", "x"), lambda: call("missing"), lambda: call("end_with", -9)):
        with pytest.raises(procession.ProcessError):
            bad()
    with pytest.raises(TypeError):
        call("echo", object())


def test_nothing_is_left_behind(nothing_left: None) -> None:
    """No descriptor, seat or zombie, however it went."""
    rust_program("partner")
    round_of_everything()
    gc.collect()


def summoned(
    command: list[str], arena: int, version: str, form: str = "2"
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Start a program as another version of the engine would; what it complained of."""
    complaint = os.memfd_create("complaint")
    os.set_inheritable(arena, True)
    seat = _engine.reserve_seat()
    try:
        fields = [form, version, arena, os.fstat(arena).st_ino, seat, "", "", complaint, "", "00"]
        done = subprocess.run(
            command,
            env={**os.environ, "PROCESSION_CHILD": ":".join(map(str, fields))},
            pass_fds=[arena, complaint],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, os.pread(complaint, 10_000, 0).decode()
    finally:
        _engine.release_seat(seat)
        os.close(complaint)


def programs() -> list[list[str]]:
    python = "from procession._core.called_by_rust import main; main(2)"
    return [[rust_program("partner")], [sys.executable, "-c", python]]


@pytest.mark.parametrize("which", [0, 1], ids=["rust", "python"])
def test_another_version_of_the_engine_is_told_apart(which: int) -> None:
    """A wheel and a crate of different versions do not meet in one tree."""
    arena = os.dup(_engine.arena_fd())
    try:
        done, complaint = summoned(programs()[which], arena, "0.0.1")
    finally:
        os.close(arena)
    assert "started by version 0.0.1 of Procession and has version" in complaint
    assert "use one version of Procession" in complaint
    assert done.returncode != 0


@pytest.mark.parametrize("which", [0, 1], ids=["rust", "python"])
def test_shared_memory_of_another_layout_is_told_apart(which: int) -> None:
    """Even if the versions were the same."""
    arena = os.memfd_create("arena")
    try:
        os.truncate(arena, 1 << 16)
        header = os.pread(_engine.arena_fd(), 16, 0)
        magic, layout = struct.unpack_from("<QI", header)
        os.pwrite(arena, struct.pack("<QI", magic, layout + 1), 0)
        done, complaint = summoned(programs()[which], arena, version())
    finally:
        os.close(arena)
    assert f"has layout {layout + 1}, this engine speaks layout {layout}" in complaint
    assert done.returncode != 0


def version() -> str:
    from importlib.metadata import version

    return version("procession")


def test_python_that_was_summoned_in_another_form_says_so() -> None:
    """The crate that started it is older or newer."""
    arena = os.dup(_engine.arena_fd())
    try:
        done, _ = summoned(programs()[1], arena, version(), form="1")
    finally:
        os.close(arena)
    assert "does not know how it was summoned; use one version of Procession" in done.stderr
    assert done.returncode == 1


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
    return [procession.current_process().name, sys.argv[1:], os.environ["GREETING"], os.getcwd()]

def fails():
    raise LookupError("no such \\ud800 thing")

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
    """What the partner said of a Python process that it started."""
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
    """Of the standard library and of a module in the working directory; by place and by name."""
    assert python_call(folder, "math", "factorial", [10]) == {"returned": 3628800}
    assert python_call(folder, "builtins", "print", None) == {"returned": None}
    assert python_call(folder, "workers", "keywords", {"data": [1, 2], "scale": 2}) == {"returned": [2, 4]}
    assert python_call(folder, "workers", "Place.name") == {"returned": "a method"}
    assert python_call(folder, "os.path", "basename", ["a/b"]) == {"returned": "b"}


def test_a_python_process_of_rust_may_have_a_pool_of_its_own(folder: Path) -> None:
    """It is as good as any main process."""
    assert python_call(folder, "workers", "a_pool") == {"returned": [1, 2, 3]}


def test_an_exception_comes_back_with_type_text_and_traceback(folder: Path) -> None:
    """Also one without a text, and one whose text is no UTF-8."""
    raised = python_call(folder, "workers", "fails")["raised"]
    assert (raised["kind"], raised["message"]) == ("LookupError", r"no such \ud800 thing")
    assert 'in fails\n    raise LookupError("no such' in raised["traceback"]
    assert "called_by_rust" not in raised["traceback"]
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
    """With what there is to do about it."""
    assert why in python_call(folder, module, function)["undelivered"]


def test_a_python_process_that_ends_before_its_function_returns(folder: Path) -> None:
    """By a code or by a signal."""
    assert python_call(folder, "workers", "exits", [3]) == {"exited": 3}
    assert python_call(folder, "workers", "dies") == {"killed": 9}
    before, was_alive, after = from_rust(folder, "kill")
    assert (before, was_alive, after) == (None, True, {"killed": 9})


def test_an_interpreter_that_is_missing_or_lacks_the_package(folder: Path, tmp_path: Path) -> None:
    """The error names it, and what to install."""
    nowhere = str(tmp_path / "python")
    assert python_call(folder, "math", "sqrt", [4], python=nowhere) == {"no interpreter": nowhere}
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    why = python_call(folder, "math", "sqrt", [4], python=str(bare))["undelivered"]
    assert "has no package procession that a Rust program can start (ModuleNotFoundError" in why
    assert f"-m pip install procession=={version()}" in why


def test_arguments_that_are_no_call_are_refused_before_anything_starts(folder: Path) -> None:
    """With a word on what a call is."""
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
    """Name, arguments, environment and directory."""
    (folder / "settings").mkdir(exist_ok=True)
    done = subprocess.run(
        [rust_program("partner"), "settings", sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert json.loads(done.stdout) == ["scout", ["one", "two"], "hello", "/"], done.stderr


def test_rust_leaves_nothing_behind(folder: Path) -> None:
    """No seat, object, block or descriptor, however it went."""
    assert from_rust(folder, "nothing-left") is True


EXAMPLE_IN_RUST = """\
Functions
  30! = 265252859812191058636308480000000
  the mean is 3
  e is about 2.72
An exception
  ValueError: factorial() not defined for negative values
Queues
  mean 3, median 2
  mean 5, median 5
"""

EXAMPLE_IN_PYTHON = """\
Functions
  78498 primes are below a million
An unknown function
  this program exports no function primes; it has count_words, primes_below
Queues
  4 words: the quick brown fox
  2 words: lazy dog
"""


def test_the_example_in_rust_prints_what_it_should() -> None:
    """Rust starts Python."""
    done = subprocess.run(
        [rust_program("with_python"), sys.executable], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (EXAMPLE_IN_RUST, "")


def test_the_example_in_python_prints_what_it_should() -> None:
    """Python starts Rust."""
    example = Path(__file__).resolve().parent.parent / "examples" / "with_rust.py"
    done = subprocess.run(
        [sys.executable, str(example), rust_program("for_python")], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (EXAMPLE_IN_PYTHON, "")


def test_the_example_says_how_to_build_its_program(tmp_path: Path) -> None:
    """Where there is none yet."""
    source = Path(__file__).resolve().parent.parent / "examples" / "with_rust.py"
    (tmp_path / "examples").mkdir()
    example = tmp_path / "examples" / "with_rust.py"
    example.write_text(source.read_text())
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cargo build --release --package procession" in done.stderr
