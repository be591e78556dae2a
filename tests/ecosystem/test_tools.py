"""Command-line tools that do their work in processes: the same answers as from one process."""

from __future__ import annotations

import ast
import json

import pytest

from harness import PROGRAMS, needs

MODULE = """\
import os, sys


def function{n}(argument):
    unused = {n}
    return undefined_name
"""


@pytest.fixture
def modules(tmp_path) -> list[str]:
    """A few modules with something to complain about."""
    names = [f"module{n}.py" for n in range(6)]
    for n, name in enumerate(names):
        (tmp_path / name).write_text(MODULE.format(n=n))
    return names


def lines_of(function: str) -> set[int]:
    """The lines of a function's body in the program that coverage measures."""
    tree = ast.parse((PROGRAMS / "coverage_subject.py").read_text())
    node = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return {statement.lineno for statement in node.body}


@needs("coverage")
def test_coverage_counts_the_lines_that_children_run(run_program, tmp_path, mode, start_method):
    """With `concurrency = multiprocessing`, the lines run in workers are in the combined report."""
    configuration = tmp_path / ".coveragerc"
    configuration.write_text("[run]\nconcurrency = multiprocessing\nparallel = true\n")
    subject = PROGRAMS / "coverage_subject.py"
    command = ("-m", "coverage", "run", f"--rcfile={configuration}", str(subject))
    assert run_program(*command, mode=mode, method=start_method).endswith("done\n")
    run_program("-m", "coverage", "combine", mode="stdlib")
    run_program("-m", "coverage", "json", "-q", "-o", "report.json", mode="stdlib")
    files = json.loads((tmp_path / "report.json").read_text())["files"]
    executed = set(next(v for k, v in files.items() if k.endswith(subject.name))["executed_lines"])
    assert lines_of("in_pool") | lines_of("in_process") <= executed
    assert not lines_of("nowhere") & executed


@needs("pylint")
def test_pylint_with_two_jobs_finds_what_one_finds(run_program, modules):
    """`pylint -j 2` reports the messages of `-j 1`."""
    options = ("pylint", "--persistent=n", "--score=n", "--disable=R")
    serial = run_program("-m", *options, "-j1", *modules, mode="stdlib", exit_code=22)
    assert "undefined-variable" in serial
    parallel = run_program("watched.py", *options, "-j2", *modules, mode="launcher", exit_code=22)
    assert sorted(parallel.splitlines()) == sorted(serial.splitlines())


@needs("flake8")
def test_flake8_with_two_jobs_finds_what_one_finds(run_program, modules):
    """`flake8 -j 2` reports the violations of `-j 1`."""
    serial = run_program("-m", "flake8", "-j1", *modules, mode="stdlib", exit_code=1)
    assert "F821" in serial
    assert run_program("watched.py", "flake8", "-j2", *modules, mode="launcher", exit_code=1) == serial


@needs("black")
def test_black_with_two_workers_formats_every_file(run_program, modules, tmp_path):
    """`black -W 2` writes what `black -W 1` writes."""
    for name in modules:
        (tmp_path / name).write_text("x = [1,\n2]\n")
    output = run_program("watched.py", "black", "-W", "2", *modules, mode="launcher")
    assert "6 files reformatted" in output
    assert {(tmp_path / name).read_text() for name in modules} == {"x = [1, 2]\n"}


@needs("sphinx")
def test_sphinx_with_two_jobs_writes_the_pages_of_one(run_program, tmp_path):
    """`sphinx -j 2` reads and writes the documents that a serial build does."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text("project = 'parallel'\nhtml_theme = 'basic'\n")
    names = [f"page{n}" for n in range(8)]
    toctree = "\n".join(f"   {name}" for name in names)
    (source / "index.rst").write_text(f"Index\n=====\n\n.. toctree::\n\n{toctree}\n")
    for name in names:
        (source / f"{name}.rst").write_text(f".. _{name}:\n\n{name}\n=====\n\nSee :ref:`page0`.\n")
    options = ("sphinx", "-q", "-b", "html", "source")
    run_program("-m", *options, "serial", mode="stdlib")
    run_program("watched.py", *options, "-j", "2", "parallel", mode="launcher")
    for page in (tmp_path / "serial").glob("*.html"):
        assert (tmp_path / "parallel" / page.name).read_text() == page.read_text()
    assert len(list((tmp_path / "parallel").glob("page*.html"))) == 8


@needs("xdist")
def test_pytest_xdist_runs_tests_that_start_processes(run_program, tmp_path):
    """In xdist's workers, which nobody here starts, `multiprocessing` is the package."""
    (tmp_path / "test_alias.py").write_text(
        "import multiprocessing\n"
        "import pytest\n"
        "import proof\n"
        "@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])\n"
        "def test_pool(method):\n"
        "    with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "        proof.check(pool.map(proof.home, range(2)))\n"
    )
    options = ("-q", "-n", "2", "-p", "no:cacheprovider", "test_alias.py")
    assert "3 passed" in run_program("-m", "pytest", *options, mode="launcher")
