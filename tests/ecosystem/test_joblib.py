"""joblib, loky, and scikit-learn on top of them."""

from __future__ import annotations

import pytest

from harness import needs


@needs("joblib", "numpy")
@pytest.mark.parametrize("backend", ["multiprocessing", "loky"])
def test_joblib_gives_the_results_of_a_serial_run(run_program, backend):
    """Plain values, memmapped arrays and errors pass through either backend under the launcher."""
    assert run_program("joblib_parallel.py", backend, mode="launcher").endswith("done\n")


@needs("joblib", "numpy")
def test_joblib_runs_on_a_context_it_is_given(run_program, mode, start_method):
    """`Parallel(backend=context)` makes the context's processes on every start method."""
    assert run_program("joblib_parallel.py", "context", mode=mode, method=start_method).endswith("done\n")


@needs("loky")
def test_loky_runs_closures_and_survives_a_killed_worker(run_program):
    """loky's own start method works under the alias, in children that nobody here started."""
    assert run_program("loky_executor.py", mode="launcher").endswith("done\n")


@needs("sklearn")
@pytest.mark.parametrize("backend", ["multiprocessing", "loky"])
def test_scikit_learn_with_two_jobs_gives_the_results_of_one(run_program, backend):
    """Scores, a grid search and a forest are the same numbers with `n_jobs=2`."""
    assert run_program("sklearn_jobs.py", backend, mode="launcher", timeout=120).endswith("done\n")
