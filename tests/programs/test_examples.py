"""The programs in `examples/` print what they should, under every start method."""

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from checked import START_METHODS, program, run  # noqa: E402
from demo import TOUR  # noqa: E402
from run_snippets import EXPECTED, run_snippet  # noqa: E402
from survive import SCENARIOS, measure  # noqa: E402

pytest.importorskip("procession")


@pytest.mark.parametrize("start_method", START_METHODS)
def test_the_tour_prints_what_the_five_programs_should(start_method: str) -> None:
    """Process, Pool, Queue, Pipe, Value and Array in one program."""
    ran = run(program("tour.py", "--start-method", start_method))
    assert ran.problem(TOUR) is None


def test_the_tour_runs_under_the_default_start_method() -> None:
    """No option is needed."""
    assert run(program("tour.py")).problem(TOUR) is None


@pytest.mark.parametrize("start_method", START_METHODS)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_snippet_runs_unchanged_but_for_its_import(name: str, start_method: str) -> None:
    """Code as people write it prints what it prints with the standard library."""
    assert run_snippet(name, start_method).problem(EXPECTED[name]) is None


@pytest.mark.parametrize("name", EXPECTED)
def test_a_snippet_prints_the_same_with_the_standard_library(name: str, tmp_path: Path) -> None:
    """The import line is the only thing that differs."""
    source = (EXAMPLES / "snippets" / f"{name}.py").read_text()
    original = tmp_path / f"{name}_with_the_standard_library.py"
    original.write_text(
        source.replace("import procession as multiprocessing", "import multiprocessing").replace(
            "from procession import", "from multiprocessing import"
        )
    )
    assert "procession" not in original.read_text()
    assert run([sys.executable, str(original)]).problem(EXPECTED[name]) is None


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_of_the_demonstration_ends_well(name: str) -> None:
    """What hangs with the standard library."""
    ran = measure(name, "procession")
    assert ran.output.endswith(f" s: {SCENARIOS[name].expected}\n"), ran.problem("")


def test_a_program_that_hangs_is_stopped_and_shows_where(tmp_path: Path) -> None:
    """The stacks of a program that hangs are part of the problem."""
    stuck = tmp_path / "stuck.py"
    stuck.write_text("import threading\n\ndef stuck_here():\n    threading.Event().wait()\n\nstuck_here()\n")
    ran = run([sys.executable, str(stuck)], limit=2)
    assert ran.hung
    problem = ran.problem("")
    assert problem is not None
    assert "stuck_here" in problem
