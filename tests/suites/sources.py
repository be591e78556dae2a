"""The suites and the sources of their files: source packages, or the interpreter itself."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
PINNED = HERE / "sources.txt"


class Missing(Exception):
    """A suite's files are not there."""


@dataclass(frozen=True)
class Suite:
    """The tests of one source package."""

    name: str
    # Where the tests are in the package, and which other files they need.
    files: str
    needs: str
    # Which of the files are not run, and why.
    omitted: tuple[tuple[str, str], ...] = ()
    # Which of the tests are not run, and why.
    skipped: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()
    # What the source package lacks beside its tests: a folder here.
    supplement: str | None = None


@dataclass(frozen=True)
class TestFile:
    """A file with tests, and the folder that its tests' names begin at."""

    __test__ = False

    suite: str
    root: Path
    path: str
    options: tuple[str, ...] = ()
    # Which of its tests are not run, and why.
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Suite and file."""
        return f"{self.suite} {self.path}"


MEASURES = "measures times"
SUITES = (
    Suite("joblib", "joblib/test/test_*.py", needs=""),
    Suite(
        "loky",
        "tests/test_*.py",
        needs="tests/",
        skipped=(
            (
                "tests/test_loky_backend.py::TestLokyBackend::test_sync_object_handling",
                "counts a child's descriptors: here shared memory is one, and an end of a pipe is a socket",
            ),
        ),
        options=("--skip-high-memory",),
    ),
    Suite(
        "viztracer",
        "tests/test_*.py",
        needs="tests/",
        omitted=(
            ("tests/test_jupyter.py", "needs Jupyter"),
            ("tests/test_performance.py", MEASURES),
            ("tests/test_torch.py", "needs torch"),
            ("tests/test_vcompressor.py", "needs data that the source package lacks"),
            ("tests/test_viewer.py", "starts web servers, no processes"),
            ("tests/test_vizplugin.py", "needs modules that the source package lacks"),
        ),
        supplement="viztracer_tests",
    ),
    Suite("pebble", "test/test_*.py", needs="test/"),
    Suite("mpire", "tests/test_*.py", needs="tests/"),
    Suite(
        "aiomultiprocess",
        "aiomultiprocess/tests/[a-z]*.py",
        needs="aiomultiprocess/tests/",
        omitted=(
            ("aiomultiprocess/tests/base.py", "has no tests"),
            ("aiomultiprocess/tests/perf.py", MEASURES),
        ),
    ),
)
CPYTHON = "cpython"
OF_CPYTHON = (
    "test_pickle.py",
    "test_runpy.py",
    "test_regrtest.py",
    "test_logging.py",
    # One file in some versions, many in others.
    "test_concurrent_futures.py",
    "test_concurrent_futures/test_*.py",
)
# test_logging wants a root logger without handlers.
OPTIONS_OF_CPYTHON = ("-p", "no:logging")
NAMES = (*(suite.name for suite in SUITES), CPYTHON)


def files_of(name: str, archives: Path, unpacked: Path) -> list[TestFile]:
    """The test files of a suite, unpacked where need be."""
    if name == CPYTHON:
        return list(_files_of_cpython())
    suite = next(suite for suite in SUITES if suite.name == name)
    root = _unpack(suite, archives, unpacked)
    omitted = {path for path, _ in suite.omitted}
    paths = sorted(str(path.relative_to(root)) for path in root.glob(suite.files))
    if not paths:
        raise Missing(f"the source package of {name} has no {suite.files}")
    return [
        TestFile(name, root, path, suite.options, _skipped_in(path, suite))
        for path in paths
        if path not in omitted
    ]


def _skipped_in(path: str, suite: Suite) -> tuple[tuple[str, str], ...]:
    return tuple((test, why) for test, why in suite.skipped if test.startswith(f"{path}::"))


def _files_of_cpython() -> Iterator[TestFile]:
    found = importlib.util.find_spec("test")
    folders = list(found.submodule_search_locations or ()) if found else []
    paths = [
        (Path(folder), path)
        for folder in folders
        for pattern in OF_CPYTHON
        for path in sorted(Path(folder).glob(pattern))
    ]
    if not paths:
        raise Missing("this Python was installed without its tests")
    for folder, path in paths:
        yield TestFile(CPYTHON, folder.parent, str(path.relative_to(folder.parent)), OPTIONS_OF_CPYTHON)


def pinned_version(name: str) -> str:
    """The version of a source package that sources.txt asks for."""
    match = re.search(rf"^{name}==(\S+)$", PINNED.read_text(), re.MULTILINE)
    if match is None:
        raise Missing(f"{PINNED.name} does not name {name}")
    return match[1]


def _unpack(suite: Suite, archives: Path, unpacked: Path) -> Path:
    top = f"{suite.name}-{pinned_version(suite.name)}"
    archive = archives / f"{top}.tar.gz"
    if not archive.exists():
        raise Missing(f"{archive} is not there: `make suites` downloads it")
    with tarfile.open(archive) as opened:
        wanted = [member for member in opened if _is_within(member.name, top, suite.needs)]
        opened.extractall(unpacked, wanted, filter="data")
    root = unpacked / top
    if suite.supplement is not None:
        shutil.copytree(HERE / suite.supplement, root / suite.needs, dirs_exist_ok=True)
    return root


def _is_within(name: str, top: str, folder: str) -> bool:
    return PurePosixPath(name).is_relative_to(PurePosixPath(top, folder))
