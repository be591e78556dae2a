"""The two example programs in which Rust and Python meet print what they should."""

import subprocess
import sys
from pathlib import Path

from tests.support.rust_programs import rust_program

EXAMPLE_IN_RUST = """\
Functions
  30! = 265252859812191058636308480000000
  the mean is 3
  e is about 2.72
An exception
  ValueError: factorial() not defined for negative values
Queues
  mean 3, median 2
  mean 5, median 5
"""

EXAMPLE_IN_PYTHON = """\
Functions
  78498 primes are below a million
An unknown function
  this program exports no function primes; it has count_words, primes_below
Queues
  4 words: the quick brown fox
  2 words: lazy dog
"""


def test_the_example_in_rust_prints_what_it_should() -> None:
    """Rust starts Python."""
    done = subprocess.run(
        [rust_program("with_python"), sys.executable], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (EXAMPLE_IN_RUST, "")


def test_the_example_in_python_prints_what_it_should() -> None:
    """Python starts Rust."""
    example = Path(__file__).resolve().parents[2] / "examples" / "with_rust.py"
    done = subprocess.run(
        [sys.executable, str(example), rust_program("for_python")], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (EXAMPLE_IN_PYTHON, "")


def test_the_example_says_how_to_build_its_program(tmp_path: Path) -> None:
    """Where there is none yet."""
    source = Path(__file__).resolve().parents[2] / "examples" / "with_rust.py"
    (tmp_path / "examples").mkdir()
    example = tmp_path / "examples" / "with_rust.py"
    example.write_text(source.read_text())
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cargo build --release --package procession" in done.stderr
