"""Rust functions as processes of Python programs, Python functions as processes of Rust programs."""

import fractions
import gc
import math
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import procession
from procession import _native
from procession.rust import Panic, Process, RustError
from tests.support.rust_programs import rust_program, wait_for_end
from tests.support.wire_values import edges, patient, plain, portrait


def call(function: str, *args: Any, **options: Any) -> Any:
    """What a function of the partner returns."""
    process = Process(rust_program("partner"), function, args, **options)
    process.start()
    try:
        return process.result(60)
    finally:
        process.close()


def test_a_function_of_a_rust_program_returns_its_result() -> None:
    """By its name, the name it was given, or its path."""
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
    """The environment that the program should find."""
    assert call("process_name", name="scout") == "scout"
    assert call("argv", argv=["--one", "two"]) == ["--one", "two"]
    assert call("variable", "GREETING", env={"GREETING": "hello"}) == "hello"
    assert call("variable", "PATH", env={"PATH": None}) is None
    assert call("directory", cwd=tmp_path) == str(tmp_path)
    assert call("pid") != os.getpid()


def test_an_executable_is_found_in_the_path_and_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell finds it, also if the process starts in another directory."""
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
    """The error says how the process ended."""
    process = Process(rust_program("partner"), "end_with", (code,))
    process.start()
    with pytest.raises(procession.WorkerDied, match=f"{how} before end_with returned") as raised:
        process.result(60)
    assert raised.value.exitcode == process.exitcode == code


def test_an_unknown_function_names_the_known_ones() -> None:
    """The error lists the functions that the program exports."""
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
    """The error names the expected type and the value that came."""
    with pytest.raises(RustError, match=why):
        call(function, *args)


def test_what_is_no_plain_data_is_refused_at_the_start() -> None:
    """The error names its type, however deep it is; no process is started."""
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
    """It is read back unchanged."""
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
        """The value that comes back."""
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
    """Python acquires a lock that a killed Rust process held like any other."""
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
    """The error names the type that the function expects; Rust's own queue is another kind, too."""
    with pytest.raises(RustError, match="this handle names an object of the kind queue, not event"):
        call("wait_for", procession.Queue(), {})
    with pytest.raises(RustError, match="procession::python::Queue, an Event, a Lock or an RLock"):
        call("own_queue", procession.Queue())
    with pytest.raises(RustError, match="expected an object of the kind Event"):
        call("wait_for", 5, {})


def test_a_program_without_procession_is_refused() -> None:
    """Otherwise the program would run as usual."""
    process = Process("sleep", "square", (4,))
    with pytest.raises(RustError, match="has nothing of Procession in it; a program that Python starts"):
        process.start()


def test_a_program_that_does_not_look_at_its_order_is_an_error(tmp_path: Path) -> None:
    """For example a script that could have run another program."""
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


DAEMON = """
import os, sys
import procession
from procession.rust import Process

started = procession.Event()
process = Process(sys.argv[1], "wait_for_ever", (started,), daemon=True)
process.start()
started.wait()
print(process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_rust_daemon_ends_with_the_python_program_that_started_it(run_script: Any) -> None:
    """Also if the parent is killed."""
    done = run_script(DAEMON, rust_program("partner"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_for_end(int(done.stdout))


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
    """No descriptor, process table entry or zombie, whatever the outcome."""
    rust_program("partner")
    round_of_everything()
    gc.collect()


@pytest.mark.parametrize("wrong", [{"argv": [1]}, {"env": {"A": 1}}, {"cwd": "/nonexistent"}])
def test_what_cannot_be_given_to_a_program_is_refused_and_leaves_nothing(wrong: dict[str, Any]) -> None:
    call("nothing")
    before = [_native.memory_stats(), len(os.listdir("/proc/self/fd"))]
    with pytest.raises((TypeError, NotADirectoryError)):
        Process(rust_program("partner"), "add", (1, 2), **wrong).start()
    assert [_native.memory_stats(), len(os.listdir("/proc/self/fd"))] == before
