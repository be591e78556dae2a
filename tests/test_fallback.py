"""The wheels: that of the engine, the one for every other system, and which of them pip takes.

PROCESSION_WHEELS names a folder with both, as `make wheels` fills it. Without it, the engine's wheel is the
one that was built for the tests, and the other is built here.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import venv
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import procession

ROOT = Path(__file__).resolve().parent.parent
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
SUBMODULES = sorted(
    module.name.removeprefix("multiprocessing.")
    for module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing.")
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `fallback/`."""
    if given := os.environ.get("PROCESSION_WHEELS"):
        return one(Path(given), "procession-*-py3-none-any.whl")
    if importlib.util.find_spec("flit_core") is None:
        pytest.skip("flit_core, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("pure")
    build = "import sys; from backend import build_wheel; build_wheel(sys.argv[1])"
    done = run(sys.executable, "-c", build, str(folder), cwd=ROOT / "fallback")
    assert done.returncode == 0, done.stderr
    return one(folder, "*")


@pytest.fixture(scope="module")
def engine_wheel() -> Path:
    """The wheel with the engine, for this machine."""
    if given := os.environ.get("PROCESSION_WHEELS"):
        return one(Path(given), "procession-*-abi3-*.whl")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    folder = target / "wheels-{}.{}".format(*sys.version_info)
    if not list(folder.glob("*.whl")):
        pytest.skip("no wheel with the engine was built for this Python")
    return one(folder, "*.whl")


def one(folder: Path, pattern: str) -> Path:
    """The only file there of that name."""
    (found,) = folder.glob(pattern)
    return found


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command, with nothing in its environment that changes what Python or pip do."""
    theirs = ("PYTHON", "PROCESSION", "PIP_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    environment = {**clean, **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


def about(wheel: Path, name: str) -> str:
    """One of the texts in a wheel that say what it is."""
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(f"procession-{VERSION}.dist-info/{name}").decode()


def fields(wheel: Path, name: str) -> Message:
    """One of those that are lists of fields."""
    return Parser().parsestr(about(wheel, name))


def files(wheel: Path) -> set[str]:
    """What a wheel installs, without its description."""
    with zipfile.ZipFile(wheel) as packed:
        return {name for name in packed.namelist() if ".dist-info/" not in name}


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


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_wheel_for_other_systems_fits_every_system(pure_wheel: Path) -> None:
    """It has the version of the crates, no native code, and nothing that runs by itself."""
    assert pure_wheel.name == f"procession-{VERSION}-py3-none-any.whl"
    wheel, project = fields(pure_wheel, "WHEEL"), fields(pure_wheel, "METADATA")
    assert (wheel["Tag"], wheel["Root-Is-Purelib"]) == ("py3-none-any", "true")
    assert (project["Name"], project["Version"], project["Requires-Python"]) == (
        "procession",
        VERSION,
        ">=3.11",
    )
    assert set(project.get_all("License-File", [])) == {"LICENSE-APACHE", "LICENSE-MIT"}
    names = files(pure_wheel)
    assert {"procession/__init__.py", "procession/__main__.py", "procession/py.typed"} <= names
    assert {Path(name).suffix for name in names} == {".py", ".pyi", ".typed"}
    assert all(name.startswith("procession/") for name in names)


def test_the_wheel_with_the_engine_is_complete(engine_wheel: Path) -> None:
    """One library for all Pythons from 3.11 on, its types, and the switch beside the package."""
    assert re.fullmatch(
        rf"procession-{re.escape(VERSION)}-cp311-abi3-(many|musl)linux\S+\.whl", engine_wheel.name
    )
    wheel, project = fields(engine_wheel, "WHEEL"), fields(engine_wheel, "METADATA")
    assert wheel["Root-Is-Purelib"] == "false"
    assert (project["Name"], project["Version"], project["Requires-Python"]) == (
        "procession",
        VERSION,
        ">=3.11",
    )
    assert set(project.get_all("License-File", [])) == {"LICENSE-APACHE", "LICENSE-MIT"}
    names = files(engine_wheel)
    assert {"procession.pth", "procession.start", "_procession_alias.py", "_procession_switch.py"} <= names
    assert {"procession/py.typed", "procession/_engine.pyi"} <= names
    assert {name for name in names if ".so" in name} == {"procession/_engine.abi3.so"}
    assert not any("__pycache__" in name for name in names)


def test_both_wheels_are_described_alike(engine_wheel: Path, pure_wheel: Path) -> None:
    """They are files of one project: the same name, version, summary, licences and Pythons."""
    engine, pure = (fields(wheel, "METADATA") for wheel in (engine_wheel, pure_wheel))
    for name in ("Name", "Version", "Summary", "License-Expression", "Requires-Python"):
        assert engine[name] == pure[name] and engine[name]
    for licence in ("licenses/LICENSE-APACHE", "licenses/LICENSE-MIT"):
        assert about(engine_wheel, licence) == about(pure_wheel, licence)


@pytest.fixture
def index(engine_wheel: Path, pure_wheel: Path, tmp_path: Path) -> Path:
    """A folder with both wheels."""
    pytest.importorskip("pip", reason="pip is not installed")
    folder = tmp_path / "index"
    folder.mkdir()
    for wheel in (engine_wheel, pure_wheel):
        shutil.copy(wheel, folder)
    return folder


PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input")


def test_pip_takes_the_engine_where_it_runs(index: Path, tmp_path: Path) -> None:
    """A fresh environment on this machine gets the engine, and no warning."""
    venv.create(tmp_path / "fresh", with_pip=False, symlinks=True)
    fresh = str(tmp_path / "fresh" / "bin" / "python")
    offline = ("--no-index", "--no-cache-dir", "--find-links", str(index))
    done = run(*PIP, "--python", fresh, "install", *offline, "procession")
    assert done.returncode == 0, done.stderr
    program = "import procession, procession._engine as engine; print(engine.__file__)"
    (found,) = lines(run(fresh, "-c", program, cwd=tmp_path))
    assert Path(found).is_relative_to(tmp_path / "fresh")


@pytest.mark.parametrize("system", ["macosx_11_0_arm64", "win_amd64", "musllinux_1_2_riscv64"])
def test_pip_takes_the_pure_wheel_elsewhere(
    index: Path, pure_wheel: Path, tmp_path: Path, system: str
) -> None:
    """Systems that no wheel of the engine fits get the other one."""
    offline = ("--no-index", "--no-cache-dir", "--find-links", str(index), "--no-deps")
    there = ("--only-binary=:all:", "--platform", system, "--dest", str(tmp_path / "taken"))
    done = run(*PIP, "download", *offline, *there, "procession")
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "taken").iterdir()] == [pure_wheel.name]


# Imported by the program, by its children of each start method, and by an interpreter it starts itself.
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
    """At the line of the program that imports the package; the children of every kind keep quiet and work."""
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
    """By the variable that it names, or as any warning."""
    assert lines(python("-c", "import procession", quiet=False, env=silence)) == []


def test_where_warnings_are_errors_the_import_fails_each_time(python: Run) -> None:
    """A second attempt does not pass for a success."""
    program = """
    for attempt in range(2):
        try:
            import procession
        except RuntimeWarning as warning:
            print(str(warning).partition(" has ")[0])
    """
    assert lines(python("-W", "error", "-c", textwrap.dedent(program), quiet=False)) == ["procession"] * 2


def test_a_program_works_on_a_system_of_another_name(python: Run, tmp_path: Path) -> None:
    """Where Python says that it runs on macOS, nothing is said of a build that is not to be had there."""
    write(tmp_path / "pretend" / "sitecustomize.py", "import sys\nsys.platform = 'darwin'\n")
    script = write(tmp_path / "program.py", PROGRAM)
    done = python(str(script), quiet=False, path=(tmp_path / "pretend",))
    assert (done.stdout.splitlines(), done.returncode) == (ALL_WORKS, 0), done.stderr
    assert done.stderr.count("Warning") == 1 and "--no-binary" not in done.stderr


@pytest.mark.parametrize("first", ["multiprocessing", "procession"])
def test_every_submodule_is_there(python: Run, first: str) -> None:
    """Each imports whichever package came first, knows itself, and has the standard library's names."""
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


# What a program can name and call: each public name, with the parameters of what can be called.
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
    # Not what an object notes for itself.
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
    """What the engine's package has, and what its functions take, the other has and takes."""
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
    """As far as the standard library can do it."""
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
    """Of the package, and below it."""
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
    """Its exceptions, and classes and functions that a pickle names by the package and its submodules."""
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
    """With a sentence that names it, and says why."""
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
    """PROCESSION_FALLBACK=error makes the import an error that says why."""
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
    """Of every start method, with functions of the program itself."""
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
    """The launcher says what it takes, and fails."""
    done = python("-m", "procession", *arguments)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
