"""What a visitor sees first is true: the programs and the picture of the README."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "Makefile").exists())
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "examples")]

import overview  # noqa: E402
from checked import run  # noqa: E402


def block(language: str) -> str:
    """The first program in that language."""
    pattern = rf"^```{language}\n(.*?)^```$"
    found = re.search(pattern, (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_python_program_of_the_readme_goes_on_after_a_crash(tmp_path: Path) -> None:
    """A worker is killed; the pool says so and works on."""
    program = tmp_path / "program.py"
    program.write_text(block("python"))
    ran = run([sys.executable, str(program)])
    told, result = ran.output.splitlines()
    assert "was killed by SIGKILL" in told
    assert (result, ran.status) == ("[1.0, 0.5, 0.25]", 0)


def test_the_rust_program_of_the_readme_is_an_example() -> None:
    """Its own test runs that."""
    example = (ROOT / "crates" / "procession" / "examples" / "readme.rs").read_text()
    assert example.partition("\n\n")[2] == block("rust")


def test_the_picture_of_the_readme_shows_the_results() -> None:
    """`python benches/overview.py` draws it."""
    results = json.loads((ROOT / "benches" / "results.json").read_text())
    assert overview.PICTURE.read_text() == overview.draw(results)
