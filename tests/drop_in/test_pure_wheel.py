"""The wheel without the engine: the package on every other system."""

from __future__ import annotations

import json
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import procession
from tests.support.wheels import Run, lines, run, write

SUBMODULES = sorted(
    module.name.removeprefix("multiprocessing.")
    for module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing.")
)


@pytest.fixture(scope="module")
def elsewhere(pure_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pure wheel's package, as it is on a system without the engine."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(pure_wheel) as packed:
        packed.extractall(folder)
    return folder


@pytest.fixture
def python(elsewhere: Path, tmp_path: Path) -> Run:
    """Run `python` with arguments as on a system without the engine."""

    def run_python(
        *arguments: str,
        quiet: bool = True,
        path: tuple[Path, ...] = (),
        env: dict[str, str] | None = None,
        **options,
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PYTHONPATH": os.pathsep.join(map(str, (elsewhere, *path))),
            **({"PROCESSION_FALLBACK": "quiet"} if quiet else {}),
            **(env or {}),
        }
        return run(sys.executable, *arguments, cwd=tmp_path, env=environment, **options)

    return run_python


# The package is imported by the program, its children of each start method, and another interpreter.
PROGRAM = """
import procession as multiprocessing
from procession import Pool, Queue
import procession.pool
import subprocess
import sys


def work(n, queue):
    import procession
    queue.put((n, procession.Process.__module__))


if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=work, args=(7, queue))
        process.start()
        print(*queue.get(timeout=60))
        process.join()
        with context.Pool(2) as pool:
            print(pool.map(abs, [-1, -2]), isinstance(pool, procession.pool.Pool))
    print(subprocess.run([sys.executable, "-c", "import procession"]).returncode)
"""


ALL_WORKS = ["7 procession.context", "[1, 2] True"] * 3 + ["0"]


def test_a_tree_of_processes_gets_one_warning(python: Run, tmp_path: Path) -> None:
    """The warning names the program's import line; children of every start method are silent and work."""
    script = write(tmp_path / "program.py", PROGRAM)
    done = python(str(script), quiet=False)
    assert (done.stdout.splitlines(), done.returncode) == (ALL_WORKS, 0), done.stderr
    assert done.stderr.count("Warning") == 1
    assert done.stderr.startswith(f"{script}:2: RuntimeWarning: procession has no engine for this system")
    assert "PROCESSION_FALLBACK=quiet in the environment silences this" in done.stderr
    assert "pip install --no-binary procession procession" in done.stderr


@pytest.mark.parametrize(
    "silence",
    [{"PROCESSION_FALLBACK": "quiet"}, {"PYTHONWARNINGS": "ignore:procession has no engine:RuntimeWarning"}],
    ids=["variable", "filter"],
)
def test_the_warning_can_be_silenced(python: Run, silence: dict[str, str]) -> None:
    """By the variable that it names, or by a warning filter."""
    assert lines(python("-c", "import procession", quiet=False, env=silence)) == []


def test_where_warnings_are_errors_the_import_fails_each_time(python: Run) -> None:
    """A second import fails as well."""
    program = """
    for attempt in range(2):
        try:
            import procession
        except RuntimeWarning as warning:
            print(str(warning).partition(" has ")[0])
    """
    assert lines(python("-W", "error", "-c", textwrap.dedent(program), quiet=False)) == ["procession"] * 2


def test_a_program_works_on_a_system_of_another_name(python: Run, tmp_path: Path) -> None:
    """On macOS the warning does not suggest a build that does not exist there."""
    write(tmp_path / "pretend" / "sitecustomize.py", "import sys\nsys.platform = 'darwin'\n")
    script = write(tmp_path / "program.py", PROGRAM)
    done = python(str(script), quiet=False, path=(tmp_path / "pretend",))
    assert (done.stdout.splitlines(), done.returncode) == (ALL_WORKS, 0), done.stderr
    assert done.stderr.count("Warning") == 1 and "--no-binary" not in done.stderr


@pytest.mark.parametrize("first", ["multiprocessing", "procession"])
def test_every_submodule_is_there(python: Run, first: str) -> None:
    """Each imports whichever package came first, has a correct spec, and has the standard library's names."""
    program = """
    import sys
    from importlib import import_module

    first, *names = sys.argv[1:]
    import_module(first)
    for name in names:
        try:
            theirs = import_module(f"multiprocessing.{name}")
        except ImportError:
            assert name == "popen_spawn_win32", name
            continue
        ours = import_module(f"procession.{name}")
        assert [n for n in dir(theirs) if not hasattr(ours, n)] == [], name
        assert ours.__name__ == ours.__spec__.name and ours.__spec__.has_location
        assert ours.__loader__ is ours.__spec__.loader
        parent, _, last = f"procession.{name}".rpartition(".")
        assert getattr(sys.modules[parent], last) is ours
    print(len(names))
    """
    assert lines(python("-c", textwrap.dedent(program), first, *SUBMODULES)) == [str(len(SUBMODULES))]


# The public surface: each public name, with the parameters of each callable.
SURFACE = """
import importlib, inspect, json, sys
import procession, procession.pool

def parameters(what):
    try:
        named = inspect.signature(what).parameters
    except (TypeError, ValueError):
        return None
    is_open = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in named.values())
    return None if is_open else sorted(named)

def described(what):
    return {name: parameters(value_of(what, name)) for name in dir(what) if is_for_users(what, name)}

def is_for_users(what, name):
    if name[0] == "_" or name in INSIDE or inspect.ismodule(value_of(what, name)):
        return False
    if inspect.ismodule(what) or callable(value_of(what, name)):
        return True
    # Instance attributes are not public.
    return isinstance(getattr(type(what), name, None), property)

def value_of(what, name):
    try:
        return getattr(what, name)
    except (AttributeError, ValueError, NotImplementedError):
        return None  # Of a process that was not started, a semaphore of another system.

# Of the engine's objects, not of their users.
INSIDE = {"handle", "get_bytes", "put_bytes", "bounded", "others_are_gone", "socket_fd", "of"}
context = procession.get_context("fork")
pool = context.Pool(1)
threads = procession.pool.ThreadPool(1)
manager = context.Manager()
objects = {
    "procession": procession, "default context": procession.context._default_context, "context": context,
    "process": context.Process(),
    "Queue": context.Queue(), "JoinableQueue": context.JoinableQueue(), "SimpleQueue": context.SimpleQueue(),
    "Lock": context.Lock(), "RLock": context.RLock(), "Semaphore": context.Semaphore(),
    "BoundedSemaphore": context.BoundedSemaphore(),
    "Condition": context.Condition(), "Event": context.Event(),
    "Barrier": context.Barrier(1), "Value": context.Value("i"), "Array": context.Array("i", 1),
    "pipe": context.Pipe()[0], "pool": pool, "apply": pool.apply_async(abs, (1,)),
    "map": pool.map_async(abs, [1]), "imap": pool.imap(abs, [1]), "unordered": pool.imap_unordered(abs, [1]),
    "threads": threads, "manager": manager, "dict": manager.dict(), "list": manager.list(),
    "set": manager.set(), "served lock": manager.Lock(), "rust": importlib.import_module("procession.rust"),
}
print(json.dumps({name: described(what) for name, what in objects.items()}))
pool.terminate()
threads.terminate()
manager.shutdown()
"""


def test_both_wheels_have_the_same_names_and_arguments(python: Run) -> None:
    """The pure package has every name of the engine's package, and its functions take the same parameters."""
    here = Path(procession.__file__).resolve().parent.parent
    (engine,) = lines(run(sys.executable, "-c", SURFACE, env={"PYTHONPATH": str(here)}))
    (pure,) = lines(python("-c", SURFACE))
    with_engine, without = json.loads(engine), json.loads(pure)
    for thing, names in with_engine.items():
        missing = sorted(set(names) - set(without[thing]))
        assert not missing, f"{thing} of the pure wheel lacks {missing}"
        for name, takes in names.items():
            theirs = without[thing][name]
            if takes is not None and theirs is not None:
                lacking = sorted(set(takes) - set(theirs))
                assert not lacking, f"{name} of {thing} of the pure wheel does not take {lacking}"


def test_what_the_package_has_more_works(python: Run) -> None:
    """The extensions work as far as the standard library can support them."""
    program = """
    import concurrent.futures, io, queue, threading
    import procession, procession.pool
    from procession import *
    from procession import SUBWARNING, context, process, reduction
    import multiprocessing

    assert set(multiprocessing.__all__) < set(procession.__all__)
    assert SUBWARNING == 25 and process is multiprocessing.process and reduction is multiprocessing.reduction
    assert isinstance(Queue(), multiprocessing.queues.Queue)
    procession.install()
    procession.install(force=True)
    assert multiprocessing.__name__ == "multiprocessing"

    box = JoinableQueue(3)
    box.put_many([1, 2])
    try:
        box.put_many([3, 4, 5], timeout=0.1)
    except queue.Full as full:
        print("full after", full.put)
    taken = []
    while len(taken) < 3:
        taken += box.get_many(max_messages_to_get=2)
    print(taken, box.get_many(max_messages_to_get=0))
    for _ in taken:
        box.task_done()
    box.join()

    value = Value("i", 40)
    print(value.add(2), value.value)
    lock = RLock()
    print(lock.locked(), lock.acquire(on_owner_died="hold"), lock.locked())
    try:
        lock.acquire(on_owner_died="ignore")
    except ValueError as error:
        print(error)
    report = io.StringIO()
    debug_dump(report)
    print("it is not known" in report.getvalue(), "thread" in report.getvalue())

    gate = threading.Event()
    threads = procession.pool.ThreadPool(1)
    results = [threads.apply_async(gate.wait), threads.map_async(abs, [1, 2]), threads.imap(abs, [1])]
    print([result.cancel() for result in results], results[0].cancel())
    for get in (results[0].get, results[1].get, results[2].next):
        try:
            get()
        except concurrent.futures.CancelledError:
            print("cancelled")
    gate.set()
    threads.close()
    threads.join(timeout=60)
    """
    assert lines(python("-c", textwrap.dedent(program))) == [
        "full after 1",
        "[1, 2, 3] []",
        "42 42",
        "False True True",
        "on_owner_died must be 'raise' or 'hold', not 'ignore'",
        "True True",
        "[True, True, True] False",
        *["cancelled"] * 3,
    ]


def test_a_name_that_is_nowhere_is_an_error_as_ever(python: Run) -> None:
    """For attributes and for submodules of the package."""
    program = """
    import procession
    try:
        procession.nothing
    except AttributeError as error:
        print(error)
    try:
        import procession.nowhere
    except ModuleNotFoundError as error:
        print(error)
    """
    assert lines(python("-c", textwrap.dedent(program))) == [
        "module 'procession' has no attribute 'nothing'",
        "No module named 'procession.nowhere'",
    ]


def test_what_pickles_under_the_packages_name_travels(python: Run, tmp_path: Path) -> None:
    """Exceptions, and classes and functions that a pickle names by the package and its submodules."""
    program = """
    import pickle

    import procession

    def load(data):
        return pickle.loads(data)

    if __name__ == "__main__":
        import procession.managers

        by_name = b"cprocession.managers\\nNamespace\\n."
        for method in procession.get_all_start_methods():
            with procession.get_context(method).Pool(1) as pool:
                assert pool.apply(load, (by_name,)) is procession.managers.Namespace
                for error in procession.OwnerDied("gone"), procession.WorkerDied("gone"):
                    twin = pool.apply(load, (pickle.dumps(error),))
                    assert type(twin) is type(error) and twin.args == ("gone",) and twin.pid is None
                    assert isinstance(twin, procession.ProcessError) and type(twin).__module__ == "procession"
                print(method)
    """
    script = write(tmp_path / "program.py", program)
    assert lines(python(str(script))) == multiprocessing.get_all_start_methods()


def test_what_only_the_engine_can_do_is_refused(python: Run) -> None:
    """The error names the feature, and the reason."""
    program = """
    import procession, procession.pool, procession.rust

    pool = procession.pool.ThreadPool(1)
    for attempt in (
        lambda: pool.apply_async(abs, (-1,), task_timeout=1),
        lambda: pool.map(abs, [-1], retries=2),
        lambda: pool.imap(abs, [-1], buffersize=3),
        lambda: procession.debug_watch(),
        lambda: procession.rust.Process("program", "function"),
    ):
        try:
            attempt()
        except NotImplementedError as error:
            print(str(error).split()[0], str(error).partition(" needs ")[2])
    print(pool.map(abs, [-1], task_timeout=None, retries=0))
    pool.terminate()
    """
    why = "the engine, and procession has no engine for this system"
    what = ("task_timeout=,", "retries=,", "buffersize=,", "debug_watch", "procession.rust.Process")
    assert lines(python("-c", textwrap.dedent(program))) == [*(f"{name} {why}" for name in what), "[1]"]


def test_a_program_can_insist_on_the_engine(python: Run) -> None:
    """PROCESSION_FALLBACK=error makes the import fail with the reason."""
    done = python("-c", "import procession", quiet=False, env={"PROCESSION_FALLBACK": "error"})
    assert done.returncode == 1 and "ImportError: procession has no engine for this system" in done.stderr


TELL = """
import sys
main = sys.modules["__main__"]
print(sys.argv, sys.path[0], __name__, getattr(main, "__file__", None), getattr(__spec__, "name", None))
print(__package__, __doc__, vars(main) is globals(), [name for name in vars(main) if name[0] != "_"])
"""


@pytest.mark.parametrize("way", ["script", "-m", "-c", "stdin", "directory", "zip", "compiled"])
@pytest.mark.parametrize("flags", [(), ("-P",)], ids=["plain", "safe path"])
def test_the_launcher_runs_a_program_as_python_does(
    python: Run, tmp_path: Path, way: str, flags: tuple[str, ...]
) -> None:
    """`sys.argv`, `sys.path[0]` and `__main__` are those without `-m procession`."""
    write(tmp_path / "sub" / "script.py", TELL)
    write(tmp_path / "site" / "module.py", TELL)
    write(tmp_path / "folder" / "__main__.py", TELL)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("__main__.py", TELL)
    compile_it = "import py_compile; py_compile.compile('sub/script.py', 'sub/compiled.pyc')"
    assert lines(python("-c", compile_it)) == []
    command: list[str] = {
        "script": ["sub/script.py"],
        "-m": ["-m", "module"],
        "-c": ["-c", TELL],
        "stdin": ["-"],
        "directory": ["folder"],
        "zip": ["packed.zip"],
        "compiled": ["sub/compiled.pyc"],
    }[way]
    seen = [
        python(*flags, *launcher, *command, "a", "-b", input=TELL, path=(tmp_path / "site",))
        for launcher in ((), ("-m", "procession"))
    ]
    assert lines(seen[0]) == lines(seen[1])


@pytest.mark.parametrize("launched_as", [("program.py",), ("-m", "program")], ids=["script", "module"])
def test_a_launched_program_starts_processes(
    python: Run, tmp_path: Path, launched_as: tuple[str, ...]
) -> None:
    """It starts them by every start method, with functions of the program itself."""
    write(tmp_path / "program.py", PROGRAM)
    assert lines(python("-m", "procession", *launched_as)) == ALL_WORKS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "usage: python -m procession"),
        (("-m",), "argument expected for the -m option"),
        (("-c",), "argument expected for the -c option"),
        (("-O", "x.py"), "unknown option -O"),
        (("nowhere.py",), "can't open file"),
        (("-m", "nowhere"), "No module named nowhere"),
    ],
)
def test_a_command_line_that_names_no_program(python: Run, arguments: tuple[str, ...], message: str) -> None:
    """The launcher prints its usage, and fails."""
    done = python("-m", "procession", *arguments)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
