"""What type checkers see of the package. `make lint` runs them over it and over this folder's programs."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


def run(*command: str, cwd: Path) -> None:
    """Run a program; a failure shows its output."""
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=85)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["drop_in", "additions"])
def test_the_typed_programs_run(name: str) -> None:
    """Their assertions hold when they run, too."""
    run(f"{name}.py", cwd=PROGRAMS)


@pytest.mark.parametrize("checker", [("mypy", "--strict"), ("pyright",)], ids=["mypy", "pyright"])
def test_a_typed_program_means_the_same_under_the_stdlibs_name(
    checker: tuple[str, ...], tmp_path: Path
) -> None:
    """The program of this package, with each name of it replaced, passes with the stdlib's types."""
    pytest.importorskip(checker[0])
    text = re.sub(r"\bprocession\b", "multiprocessing", (PROGRAMS / "drop_in.py").read_text())
    (tmp_path / "program.py").write_text(text)
    run("-m", *checker, "program.py", cwd=tmp_path)


MODULES = "connection context managers pool queues shared_memory sharedctypes synchronize".split()
# The stdlib has it on Windows only.
NOT_HERE = {"PipeConnection"}


def names_in(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements of a stub define, on any version and any system."""
    for node in body:
        match node:
            case ast.ClassDef(name) | ast.FunctionDef(name) | ast.AnnAssign(ast.Name(name)):
                yield name
            case ast.Assign([ast.Name(name)]):
                yield name
            case ast.If():
                yield from names_in([*node.body, *node.orelse])
            case _:
                pass


def public_names(module: str) -> list[str]:
    """The public names that mypy's stub of a module of the stdlib defines."""
    mypy = importlib.util.find_spec("mypy")
    assert mypy is not None and mypy.origin is not None
    stub = Path(mypy.origin).parent / f"typeshed/stdlib/multiprocessing/{module}.pyi"
    names = set(names_in(ast.parse(stub.read_text()).body)) - NOT_HERE
    return sorted(name for name in names if not name.startswith("_"))


def test_type_checkers_know_every_name_that_they_know_of_the_stdlib(tmp_path: Path) -> None:
    """A program imports each from the module of its name."""
    pytest.importorskip("mypy")
    lines = [f"from procession.{m} import {n} as {m}_{n}\n" for m in MODULES for n in public_names(m)]
    assert len(lines) > 70
    (tmp_path / "program.py").write_text("".join(lines))
    run("-m", "mypy", "--strict", "--follow-imports=silent", "program.py", cwd=tmp_path)
