"""`python -m procession`, `procession.install()` and the switch: `multiprocessing` means the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import procession

HOME = Path(procession.__file__).parent.parent

# A program that does not know the package; it reports which package it and its children run on.
PROGRAM = """
import multiprocessing, os, subprocess, sys
import multiprocessing.pool
from concurrent.futures import ProcessPoolExecutor


def who(_):
    import multiprocessing
    kind = type(multiprocessing.current_process())
    return multiprocessing.__name__, sys.modules[kind.__module__].__name__


if __name__ == "__main__":
    pool = sys.modules["multiprocessing.pool"]
    print(multiprocessing.__name__, multiprocessing.pool.__name__, pool.__name__)
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(*sorted(set(pool.map(who, range(4)))))
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            print(*sorted(set(executor.map(who, range(4)))))
"""
EVERYWHERE_OURS = [
    "procession procession.pool procession.pool",
    *["('procession', 'procession.context')"] * 6,
]

# The files that the wheel has beside the package.
BESIDE = ("_procession_alias.py", "_procession_switch.py", "procession.pth", "procession.start")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python(tmp_path: Path) -> Run:
    """Run `python` with arguments in a folder of its own, with the package importable."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": str(HOME), **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, **environment},
            **options,
        )

    return run


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_unmodified_script_runs_on_the_package(python: Run, tmp_path: Path) -> None:
    """The program itself, its children of every start method, and those of `concurrent.futures`."""
    write(tmp_path / "program.py", PROGRAM)
    assert lines(python("-m", "procession", "program.py")) == EVERYWHERE_OURS


def test_an_unmodified_module_runs_on_the_package(python: Run, tmp_path: Path) -> None:
    """With `-m`, from a package with relative imports."""
    write(tmp_path / "tool" / "__init__.py", "")
    write(tmp_path / "tool" / "helper.py", "answer = 42")
    write(tmp_path / "tool" / "program.py", "from .helper import answer\nassert answer == 42\n" + PROGRAM)
    assert lines(python("-m", "procession", "-m", "tool.program")) == EVERYWHERE_OURS


TELL = """
import sys
main = sys.modules["__main__"]
names = sorted(name for name in vars(main) if name.startswith("__") and name != "__annotations__")
print(sys.argv, sys.path[0], __name__, getattr(main, "__file__", None), getattr(__spec__, "name", None))
print(names, __package__, type(__loader__), __doc__, vars(main) is globals())
"""


@pytest.mark.parametrize("way", ["script", "-m", "-c", "stdin", "directory", "zip", "compiled"])
@pytest.mark.parametrize("flags", [(), ("-P",)], ids=["plain", "safe path"])
def test_a_program_sees_what_python_would_have_shown_it(
    python: Run, tmp_path: Path, way: str, flags: tuple[str, ...]
) -> None:
    """`sys.argv`, `sys.path[0]` and the names in `__main__` are those without the launcher."""
    write(tmp_path / "sub" / "script.py", TELL)
    write(tmp_path / "site" / "module.py", TELL)
    write(tmp_path / "folder" / "__main__.py", TELL)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("__main__.py", TELL)
    code = f"import py_compile; py_compile.compile({'sub/script.py'!r}, {'sub/compiled.pyc'!r})"
    assert python("-c", code).returncode == 0
    command: list[str] = {
        "script": ["sub/script.py"],
        "-m": ["-m", "module"],
        "-c": ["-c", TELL],
        "stdin": ["-"],
        "directory": ["folder"],
        "zip": ["packed.zip"],
        "compiled": ["sub/compiled.pyc"],
    }[way]
    environment = {"PYTHONPATH": f"{HOME}{os.pathsep}{tmp_path / 'site'}"}
    seen = [
        python(*flags, *launcher, *command, "a", "-b", input=TELL, env=environment)
        for launcher in ((), ("-m", "procession"))
    ]
    assert lines(seen[0]) == lines(seen[1])


@pytest.mark.parametrize("end", ["sys.exit(7)", "raise SystemExit('text')", "1 / 0", "os._exit(3)"])
def test_a_program_ends_as_it_would_have(python: Run, tmp_path: Path, end: str) -> None:
    """With the same exit status and the same output."""
    script = write(tmp_path / "script.py", f"import os, sys\n{end}\n")
    plain, launched = python(str(script)), python("-m", "procession", str(script))
    assert plain.returncode == launched.returncode
    assert plain.stderr.splitlines()[-1:] == launched.stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python -m procession"),
        (["-m"], "argument expected for the -m option"),
        (["-c"], "argument expected for the -c option"),
        (["-O", "x.py"], "unknown option -O"),
        (["nowhere.py"], "can't open file"),
        (["-m", "nowhere"], "No module named nowhere"),
    ],
)
def test_a_command_line_that_names_no_program(python: Run, arguments: list[str], message: str) -> None:
    """The launcher prints its usage, and fails."""
    done = python("-m", "procession", *arguments)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_how_it_is_used(python: Run) -> None:
    """Help is printed, and the exit status is 0."""
    done = python("-m", "procession", "--help")
    assert done.returncode == 0 and "PROCESSION_INSTALL" in done.stdout


def test_every_submodule_is_one_object_under_both_names(python: Run) -> None:
    """Whichever name was imported first."""
    code = """
    import importlib, pkgutil
    import procession, procession.pool, multiprocessing, multiprocessing.queues
    names = [m.name for m in pkgutil.iter_modules(procession.__path__) if not m.name.startswith("_")]
    names = [name for name in names if name != "popen_spawn_win32"] + ["dummy.connection"]
    for count, name in enumerate(names):
        order = ["procession", "multiprocessing"][:: 1 if count % 2 else -1]
        first, second = (importlib.import_module(f"{home}.{name}") for home in order)
        assert first is second, name
        assert first.__spec__.loader is not None and first.__spec__.name.endswith(name), first.__spec__
    from multiprocessing import pool, shared_memory
    assert pool is procession.pool and multiprocessing is procession
    print(len(names) > 15)
    """
    assert lines(python("-m", "procession", "-c", textwrap.dedent(code))) == ["True"]


def test_a_submodule_is_an_attribute_once_it_was_imported(python: Run) -> None:
    """By either name, and also when the package had loaded it before."""
    program = """
        import multiprocessing, pickle, sys
        import multiprocessing.util, multiprocessing.resource_sharer
        import multiprocessing.shared_memory, multiprocessing.queues, multiprocessing.spawn
        for name in "context process reduction resource_sharer shared_memory queues spawn util".split():
            module = getattr(multiprocessing, name)
            assert module is sys.modules[f"multiprocessing.{name}"] is sys.modules[f"procession.{name}"], name
        from multiprocessing import queues, shared_memory, util
        for kind in (queues.Queue, shared_memory.SharedMemory, util.Finalize):
            assert getattr(sys.modules[kind.__module__], kind.__name__) is kind
            assert pickle.loads(pickle.dumps(kind)) is kind
        print("fine")
    """
    assert python("-m", "procession", "-c", textwrap.dedent(program)).stdout == "fine\n"


def test_multiprocessing_is_no_program(python: Run) -> None:
    """As in the standard library; its modules are all importable, which CPython's tests see to."""
    done = python("-m", "procession", "-m", "multiprocessing")
    assert done.returncode == 1
    assert "No module named 'multiprocessing.__main__'" in done.stderr
    program = "import importlib; importlib.import_module('multiprocessing.__main__')"
    assert python("-m", "procession", "-c", program).returncode == 0


def test_a_submodule_that_does_not_exist_is_missing_under_the_asked_name(python: Run) -> None:
    """The error names the module that the program asked for."""
    done = python("-m", "procession", "-c", "import multiprocessing.nowhere")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'multiprocessing.nowhere'"


def test_install_turns_a_program_over(python: Run, tmp_path: Path) -> None:
    """Every import after it gives the package, in children too."""
    write(
        tmp_path / "program.py", "import procession\nprocession.install()\nprocession.install()\n" + PROGRAM
    )
    assert lines(python("program.py")) == EVERYWHERE_OURS


@pytest.mark.parametrize(
    "holding",
    [
        "import multiprocessing as mp",
        "from multiprocessing import Pool",
        "from multiprocessing.queues import Queue",
        "import concurrent.futures.process",
    ],
)
def test_install_refuses_when_modules_hold_the_stdlibs(python: Run, holding: str) -> None:
    """The error names them; with `force` they keep what they have, and the rest gets the package."""
    holder = "concurrent.futures.process" if "futures" in holding else "__main__"
    code = f"""
    {holding}
    import procession
    try:
        procession.install()
    except RuntimeError as error:
        assert {holder!r} in str(error) and "force=True" in str(error), error
    else:
        raise AssertionError("installed")
    import multiprocessing
    assert multiprocessing.__name__ == "multiprocessing"
    procession.install(force=True)
    import multiprocessing.pool
    print(multiprocessing.__name__, multiprocessing.pool.__name__)
    """
    assert lines(python("-c", textwrap.dedent(code))) == ["procession procession.pool"]


def test_what_both_share_keeps_nobody_from_installing(python: Run) -> None:
    """Modules that imported the exceptions, the current process or the reducers keep working."""
    code = """
    from multiprocessing import TimeoutError, current_process, util, reduction
    from multiprocessing.process import BaseProcess
    import procession
    procession.install()
    import multiprocessing
    print(multiprocessing.util is util, multiprocessing.TimeoutError is TimeoutError)
    """
    assert lines(python("-c", textwrap.dedent(code))) == ["True True"]


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A virtual environment with the package installed, by hand; runs its python on a text."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    for name in ("procession", *BESIDE):
        source = HOME / name
        if source.is_dir():
            shutil.copytree(source, site / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, site)

    def run(text: str, switch: bool, *flags: str) -> subprocess.CompletedProcess[str]:
        switched = {"PROCESSION_INSTALL": "1"} if switch else {}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PROCESSION"))}
        return subprocess.run(
            [home / "bin" / "python", "-s", "-P", *flags, "-c", textwrap.dedent(text)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**clean, **switched},
        )

    run.site = site  # type: ignore[attr-defined]
    return run


TELL_NAME = "import multiprocessing; print(multiprocessing.__name__)"


def test_the_switch_reaches_an_interpreter_that_hears_its_environment(environment: Any) -> None:
    """A child that the package did not start has the alias under the switch, and not with -E or -I."""
    assert lines(environment(TELL_NAME, False)) == ["multiprocessing"]
    assert lines(environment(TELL_NAME, True)) == ["procession"]
    for flag in ("-E", "-I"):
        assert lines(environment(TELL_NAME, True, flag)) == ["multiprocessing"]


@pytest.mark.parametrize("flag", ["-E", "-I"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_isolated_program_under_the_launcher_and_its_children_have_the_alias(
    environment: Any, tmp_path: Path, flag: str, method: str
) -> None:
    """Children have their parent's flags, and are told on their command line."""
    program = write(
        tmp_path / "isolated.py",
        f"""
        import sys
        import multiprocessing

        def tell():
            assert {"sys.flags.isolated" if flag == "-I" else "sys.flags.ignore_environment"}
            import multiprocessing.pool
            print(multiprocessing.pool.__name__, flush=True)

        if __name__ == "__main__":
            print(multiprocessing.__name__, flush=True)
            child = multiprocessing.get_context({method!r}).Process(target=tell)
            child.start()
            child.join()
        """,
    )
    python = environment.site.parents[2] / "bin" / "python"
    command = [python, flag, "-m", "procession", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert lines(done) == ["procession", "procession.pool"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes such programs")
def test_an_interpreter_with_rights_beyond_its_starters_believes_no_variable(environment: Any) -> None:
    """Also when it has made both groups the same meanwhile: the kernel remembers."""
    python = environment.site.parents[2] / "bin" / "python"
    original = os.path.realpath(python)
    python.unlink()
    shutil.copy(original, python)
    tell = """
    import os
    os.setegid(os.getgid())
    import multiprocessing, _procession_alias
    believed = _procession_alias.variable("PATH") is not None
    print(multiprocessing.__name__, _procession_alias.is_elevated(), believed)
    """
    assert lines(environment(tell, True)) == ["procession False True"]
    os.chown(python, 0, 1)
    python.chmod(0o2755)
    if lines(environment("import os; print(os.getegid())", False)) == [str(os.getegid())]:
        pytest.skip("the folder is on a file system without setgid programs")
    assert lines(environment(tell, True)) == ["multiprocessing True False"]


def test_the_switch_loads_nothing_before_it_is_needed(environment: Any) -> None:
    """An interpreter that never asks for `multiprocessing` loads no part of the package."""
    loaded = "import sys; print(sorted(name for name in sys.modules if 'process' in name))"
    switch = ["_procession_switch"] if sys.version_info >= (3, 15) else []
    assert lines(environment(loaded, False)) == [str(switch)]
    assert lines(environment(loaded, True)) == [str(["_procession_alias", *switch])]


def test_children_without_a_site_keep_the_alias(environment: Any) -> None:
    """An interpreter started with -S does not find the switch; the package passes it to its own children."""
    text = f"""
    import os, sys
    sys.path.append({str(environment.site)!r})
    import procession
    procession.install()
    import multiprocessing
    for method in "spawn", "forkserver":
        ours, theirs = multiprocessing.get_context(method).Pipe()
        os.environ.pop("PROCESSION_INSTALL", None)
        program = "import multiprocessing; theirs.send(multiprocessing.__name__)"
        process = multiprocessing.get_context(method).Process(
            target=exec, args=(program, {{"theirs": theirs}})
        )
        process.start()
        print(ours.recv())
        process.join()
    """
    assert lines(environment(text, False, "-S")) == ["procession"] * 2


@pytest.mark.parametrize("switch", [False, True], ids=["off", "on"])
@pytest.mark.parametrize(
    "damage",
    [
        "package removed",
        "package broken",
        "alias removed",
        "alias broken",
        "all but what looks for the switch removed",
    ],
)
def test_a_damaged_installation_disturbs_no_other_program(
    environment: Any, damage: str, switch: bool
) -> None:
    """An interpreter prints nothing at its start, whatever happened to the package."""
    site = environment.site
    if damage in ("package removed", "all but what looks for the switch removed"):
        shutil.rmtree(site / "procession")
    if damage in ("alias removed", "all but what looks for the switch removed"):
        (site / "_procession_alias.py").unlink()
    if damage == "package broken":
        (site / "procession" / "__init__.py").write_text("this is not Python")
    if damage == "alias broken":
        (site / "_procession_alias.py").write_text("this is not Python")
    assert lines(environment("print('started')", switch)) == ["started"]
    if not switch:
        assert lines(environment(TELL_NAME, switch)) == ["multiprocessing"]


def test_under_the_switch_a_missing_package_is_named(environment: Any) -> None:
    """Importing `multiprocessing` fails and says why, since the program was promised the package."""
    shutil.rmtree(environment.site / "procession")
    done = environment(TELL_NAME, True)
    assert "PROCESSION_INSTALL is set, but this Python has no procession" in done.stderr


def test_the_old_and_the_new_way_to_look_for_the_switch_find_the_same(environment: Any) -> None:
    """`procession.start` is for Python 3.15 and later, which prefer it to `procession.pth`."""
    tell = "import sys; print(type(sys.meta_path[0]).__name__)"
    for removed in ("procession.start", "procession.pth"):
        if removed == "procession.pth" and sys.version_info < (3, 15):
            break
        kept = (environment.site / removed).read_text()
        (environment.site / removed).unlink()
        assert lines(environment(tell, True)) == ["AliasFinder"]
        assert "AliasFinder" not in lines(environment(tell, False))
        (environment.site / removed).write_text(kept)


def test_code_and_source_can_be_had_under_both_names(python: Run) -> None:
    """`runpy`, coverage and others ask a module's loader, whether the module was imported or not."""
    code = """
    import importlib.resources, importlib.util, inspect, pkgutil, runpy, sys
    for name in ["", ".sharedctypes", ".dummy", ".util"]:
        name = "multiprocessing" + name
        for _ in "before", "after":
            spec = importlib.util.find_spec(name)
            assert spec.has_location and spec.origin.endswith(".py"), spec
            for asked in {name, spec.name}:
                source = spec.loader.get_source(asked)
                assert source == open(spec.origin).read()
                assert spec.loader.get_code(asked).co_filename == spec.origin
                assert spec.loader.is_package(asked) == (spec.submodule_search_locations is not None)
                assert spec.loader.get_filename(asked) == spec.origin
            module = __import__(name, fromlist=["*"])
            assert inspect.getsource(module) == source
    assert b"Procession" in pkgutil.get_data("multiprocessing", "__init__.py")
    assert importlib.resources.files("multiprocessing").joinpath("py.typed").is_file()
    assert importlib.util.find_spec("multiprocessing.nowhere") is None
    runpy.run_module("multiprocessing.queues")
    runpy.run_module("multiprocessing.spawn")
    try:
        runpy.run_module("multiprocessing")
    except ImportError as error:
        assert "cannot be directly executed" in str(error), error
    print("all")
    """
    assert lines(python("-W", "ignore", "-m", "procession", "-c", textwrap.dedent(code))) == ["all"]


@pytest.mark.parametrize("way", ["launched", "installed late"])
def test_types_call_themselves_multiprocessings_under_the_alias(python: Run, way: str) -> None:
    """Libraries recognise queues, locks and processes by their module; the objects still pickle."""
    code = """
    import sys
    if sys.argv[1] == "installed late":
        import procession, procession.queues
        procession.install()
    import multiprocessing, multiprocessing as mp, pickle
    from multiprocessing import pool, context
    things = [mp.Queue(), mp.SimpleQueue(), *mp.Pipe(), mp.Lock(), mp.RLock(), mp.Event(), mp.Condition()]
    things += [mp.Barrier(1), mp.Value("i", 0), mp.Array("i", 1), mp.get_context("spawn"), mp.Process()]
    things += [mp.get_context("fork").Process(), mp.Pool]
    names = {type(thing).__module__ for thing in things} | {pool.Pool.__module__, pool.AsyncResult.__module__}
    names.add(multiprocessing.Pool.__module__)
    assert {name.partition(".")[0] for name in names - {"builtins"}} == {"multiprocessing"}, names
    box = things[0]
    box.put(things[1])
    assert type(box.get(timeout=30)) is type(things[1])
    assert pickle.loads(pickle.dumps(pool.Pool)) is pool.Pool
    for method in multiprocessing.get_all_start_methods():
        queue = multiprocessing.get_context(method).Queue()
        process = multiprocessing.get_context(method).Process(target=queue.put, args=(1,))
        process.start()
        print(queue.get(timeout=30))
        process.join()
    """
    launcher = ("-m", "procession") if way == "launched" else ()
    assert lines(python(*launcher, "-c", textwrap.dedent(code), way)) == ["1", "1", "1"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters is new in Python 3.14")
def test_subinterpreters_have_the_standard_librarys(environment: Any) -> None:
    """A process has one engine; under the alias, its other interpreters use the standard library."""
    text = """
    from concurrent import interpreters
    import multiprocessing
    print(multiprocessing.__name__, flush=True)
    other = interpreters.create()
    other.exec("import multiprocessing; print(multiprocessing.__name__, flush=True)")
    other.exec("import concurrent.futures.process as it; print(it.__name__, flush=True)")
    other.close()
    """
    names = ["procession", "multiprocessing", "concurrent.futures.process"]
    assert lines(environment(text, True)) == names


def test_the_source_of_types_is_found_under_the_alias(python: Run) -> None:
    """`inspect`, and the documentation tools that ask it, show the lines of the class."""
    code = """
    import inspect
    from multiprocessing import connection, context, managers, pool, queues, synchronize
    kinds = [pool.Pool, pool.ThreadPool, queues.Queue, queues.JoinableQueue, connection.Connection]
    kinds += [context.Process, context.BaseContext, context.SpawnProcess]
    kinds += [synchronize.Condition, managers.SyncManager]
    for kind in kinds:
        first = inspect.getsource(kind).lstrip().splitlines()[0]
        assert first.startswith((f"class {kind.__name__}(", f"class {kind.__name__}:", "@")), (kind, first)
    # What is defined in a file of its own is not shown as other lines of the file it is said to be in.
    elsewhere = [managers.BaseProxy, managers.DictProxy, managers.ConditionProxy, pool.AsyncResult]
    for kind in elsewhere:
        try:
            first = inspect.getsource(kind).lstrip().splitlines()[0]
        except OSError:
            continue
        assert kind.__name__ in first, (kind, first)
    print("all")
    """
    assert lines(python("-m", "procession", "-c", textwrap.dedent(code))) == ["all"]
