"""Every public name of the stdlib exists, with one meaning."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
import signal
import subprocess
import sys
from typing import Any

import pytest

import procession

SUBMODULES = sorted(
    module.name for module in pkgutil.walk_packages(multiprocessing.__path__, "") if module.name != "dummy"
) + ["dummy", "dummy.connection"]

WINDOWS_ONLY = "popen_spawn_win32"


@pytest.mark.parametrize("name", [name for name in SUBMODULES if name != WINDOWS_ONLY])
def test_every_submodule_of_the_stdlib_imports_under_our_name(name: str) -> None:
    """Each module has an `__all__` with at least the stdlib's names."""
    theirs = importlib.import_module(f"multiprocessing.{name}")
    ours = importlib.import_module(f"procession.{name}")
    assert set(theirs.__all__) <= set(ours.__all__)
    for exported in ours.__all__:
        assert hasattr(ours, exported)


def test_the_windows_module_refuses_as_the_stdlibs_does() -> None:
    """Importing the Windows-only module is an ImportError on this system."""
    with pytest.raises(ImportError, match="Windows"):
        importlib.import_module(f"procession.{WINDOWS_ONLY}")


MORE = (
    "OwnerDied",
    "WorkerDied",
    "debug_dump",
    "debug_on_signal",
    "debug_watch",
    "install",
    "memory_info",
    "trim",
)


def test_the_packages_names_are_the_stdlibs_and_a_few_more() -> None:
    """`__all__` is complete, and nothing public is outside it."""
    assert set(procession.__all__) == {*multiprocessing.__all__, *MORE}
    namespace: dict[str, Any] = {}
    exec("from procession import *", namespace)
    assert set(procession.__all__) <= set(namespace)
    public = {
        name
        for name, value in vars(procession).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }
    assert public - set(procession.__all__) == {"SUBDEBUG", "SUBWARNING"}


VERY_SAME = ["process", "util", "reduction", "resource_sharer", "resource_tracker"]
if sys.version_info >= (3, 13):  # before, it lacks what the package adds
    VERY_SAME.append("shared_memory")


@pytest.mark.parametrize("name", VERY_SAME)
def test_modules_with_process_wide_state_are_the_very_same(name: str) -> None:
    """State that must exist once per process exists once."""
    ours = importlib.import_module(f"procession.{name}")
    assert ours is importlib.import_module(f"multiprocessing.{name}")


def test_patches_of_the_spawn_module_count_under_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, coverage replaces get_preparation_data; other tools set the executable."""
    import multiprocessing.spawn as theirs

    import procession.spawn as ours

    def patched(name: str) -> dict[str, Any]:
        return {"name": name}

    monkeypatch.setattr(ours, "get_preparation_data", patched)
    assert theirs.get_preparation_data is ours.get_preparation_data is patched
    monkeypatch.undo()
    assert theirs.get_preparation_data is ours.get_preparation_data is not patched
    before = theirs.get_executable()
    try:
        procession.set_executable("/an/interpreter")
        assert theirs.get_executable() == ours.get_executable() == b"/an/interpreter"
    finally:
        theirs.set_executable(before)


@pytest.mark.parametrize("error", [procession.OwnerDied, procession.WorkerDied])
def test_death_notices_keep_what_they_know_when_pickled(error: type) -> None:
    """pid, exit code, signal and task survive pickling between processes."""
    notice = error(pid=123, exitcode=-signal.SIGKILL)
    for twin in (pickle.loads(pickle.dumps(notice)), copy.copy(notice)):
        assert type(twin) is error and str(twin) == str(notice)
        assert (twin.pid, twin.exitcode, twin.signal) == (123, -9, 9)
    assert "123 was killed by SIGKILL" in str(notice)
    assert str(error("in other words")) == "in other words"
    assert error(signal=15).exitcode == -15


def test_a_death_notice_names_the_task() -> None:
    """WorkerDied names the task that was lost."""
    notice = procession.WorkerDied(pid=5, exitcode=3, task="chunk 7 of map")
    assert "exited with status 3 while it ran chunk 7 of map" in str(notice)
    assert pickle.loads(pickle.dumps(notice)).task == "chunk 7 of map"


ALIAS = """
import importlib, sys
from importlib.machinery import ModuleSpec

class Alias:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "multiprocessing":
            return ModuleSpec(name, Alias, is_package=name == "multiprocessing")

    @staticmethod
    def create_module(spec):
        module = importlib.import_module("procession" + spec.name[len("multiprocessing"):])
        Alias.spec = module.__spec__
        return module

    @staticmethod
    def exec_module(module):
        module.__spec__ = Alias.spec

sys.meta_path.insert(0, Alias)
"""


def test_the_package_finds_the_stdlib_when_it_stands_for_it() -> None:
    """When `multiprocessing` means this package, the base class is still the stdlib's, and exists once."""
    program = """
import multiprocessing, multiprocessing.managers, multiprocessing.process, multiprocessing.pool
import procession.context
assert multiprocessing is procession
assert multiprocessing.managers is procession.managers
base = procession.Process.__mro__[-2]
assert base is multiprocessing.process.BaseProcess
assert base._bootstrap.__globals__["__file__"].endswith("/multiprocessing/process.py")
assert procession.managers.BaseManager.__mro__[1].__init__.__globals__["process"] is procession.process
"""
    done = subprocess.run([sys.executable, "-c", ALIAS + program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_starts_and_opens_nothing() -> None:
    """The import creates no thread, descriptor, process or shared memory."""
    program = (
        "import os, threading; before = os.listdir('/proc/self/fd')\n"
        "import procession\n"
        "assert os.listdir('/proc/self/fd') == before and len(os.listdir('/proc/self/task')) == 1"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
