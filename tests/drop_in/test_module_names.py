"""Tools that scan every module of a program (pickle, mock, inspect, pytest) find only correct names."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import procession

HOME = Path(procession.__file__).parent.parent

LOOK = """
import importlib, inspect, pickle, pkgutil, sys, types
import {package} as multiprocessing

if {all_of_it}:
    for module in pkgutil.walk_packages(importlib.import_module("procession").__path__, "procession."):
        if not module.name.endswith(("win32", "__main__")):
            importlib.import_module(module.name)


class Reduced:
    # What pickle has to look for in all modules, as the ufuncs of scipy.
    def __reduce__(self):
        return "SINGLETON"

    def __getattribute__(self, name):
        if name == "__module__":
            raise AttributeError(name)
        return object.__getattribute__(self, name)


SINGLETON = Reduced()
later = types.ModuleType("zzz_later")
later.SINGLETON = SINGLETON
del globals()["SINGLETON"]
sys.modules["zzz_later"] = later

loaded = set(sys.modules)
names = ["spam", "__wrapped__", "__path__", "pytest_plugins", "pool", "queues", "managers", "spawn", "heap"]
for module in list(sys.modules.values()):
    for name in names:
        hasattr(module, name)
    if module.__name__.partition(".")[0] in ("procession", "multiprocessing"):
        inspect.getmembers(module)
        inspect.getmodule(module)
assert set(sys.modules) == loaded, set(sys.modules) - loaded
for dumps in pickle.dumps, pickle._dumps:
    assert pickle.loads(dumps(later.SINGLETON)) is later.SINGLETON
assert set(sys.modules) == loaded, set(sys.modules) - loaded
print("found")
"""


@pytest.mark.parametrize("all_of_it", [False, True], ids=["as imported", "with every submodule"])
@pytest.mark.parametrize("way", ["imported", "alias"])
def test_looking_for_a_name_in_every_module_finds_it_and_loads_nothing(way: str, all_of_it: bool) -> None:
    """A module raises AttributeError for any name that it lacks."""
    package = "procession" if way == "imported" else "multiprocessing"
    launcher = () if way == "imported" else ("-m", "procession")
    program = textwrap.dedent(LOOK).format(package=package, all_of_it=all_of_it)
    done = subprocess.run(
        [sys.executable, *launcher, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )
    assert (done.stdout, done.stderr) == ("found\n", "")


USES = """
import sys
import {package} as m

def nothing(): pass

def use(what):
    c = m.get_context("{start}")
    if what == "process":
        p = c.Process(target=nothing)
        p.start()
        p.join()
    elif what == "pool":
        with c.Pool(1) as pool:
            pool.apply(nothing)
    elif what == "manager":
        c.Manager().shutdown()
    elif what != "import":
        getattr(c, what)(*{{"Value": "i", "RawArray": ("i", 3), "Barrier": (2,)}}.get(what, ()))

if __name__ == "__main__":
    use(sys.argv[1])
    names = {names!r}
    print(*(name for name in names if hasattr(m, name)))
"""
SUBMODULES = (
    "connection context forkserver heap managers pool popen_fork popen_forkserver popen_spawn_posix process "
    "queues reduction resource_sharer resource_tracker shared_memory sharedctypes spawn synchronize util"
).split()


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "what", ["import", "Lock", "Pipe", "Queue", "Value", "RawArray", "Barrier", "process", "pool", "manager"]
)
def test_the_package_has_the_submodules_that_the_stdlibs_has_by_then(
    what: str, start: str, tmp_path: Path
) -> None:
    """`multiprocessing.reduction` at once, `.connection` after a pool, with no other import."""
    found = {}
    for package in ("multiprocessing", "procession"):
        program = tmp_path / f"{package}_uses.py"
        program.write_text(USES.format(package=package, start=start, names=SUBMODULES))
        done = subprocess.run(
            [sys.executable, str(program), what],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(HOME)},
        )
        assert (done.returncode, done.stderr) == (0, "")
        found[package] = set(done.stdout.split())
    assert found["multiprocessing"] <= found["procession"]
