"""Libraries that are pools of their own, or put something on top of a pool."""

from __future__ import annotations

import pytest

from harness import needs


@needs("tqdm")
def test_tqdm_maps_in_processes_and_shares_its_lock(run_program, mode, start_method):
    """process_map gives a serial run's results; the lock of the bars is the package's in every worker."""
    assert run_program("tqdm_processes.py", mode=mode, method=start_method).endswith("done\n")


@needs("pebble")
def test_pebble_runs_times_out_and_replaces_dead_workers(run_program, mode, start_method):
    """pebble's pool and decorators work on the package's contexts."""
    assert run_program("pebble_pools.py", mode=mode, method=start_method).endswith("done\n")


@needs("mpire")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "threading"])
def test_mpire_runs_on_all_its_start_methods(run_program, method):
    """A WorkerPool's results, worker state, insights and errors are right under the launcher."""
    assert run_program("mpire_pool.py", mode="launcher", method=method, timeout=120).endswith("done\n")


@needs("dask")
def test_dask_computes_in_processes(run_program, mode, start_method):
    """dask's multiprocessing scheduler gives a serial run's results, on a pool of its own or a given one."""
    assert run_program("dask_processes.py", mode=mode, method=start_method).endswith("done\n")


@needs("distributed")
def test_distributed_runs_a_cluster_of_processes(run_program, start_method):
    """A LocalCluster's workers are the package's processes, and one that exits is replaced."""
    output = run_program("distributed_cluster.py", mode="launcher", method=start_method, timeout=120)
    assert output.endswith("done\n")


@needs("gymnasium")
def test_gymnasium_steps_environments_in_processes(run_program, start_method):
    """An AsyncVectorEnv gives the steps of a SyncVectorEnv, with and without shared memory."""
    assert run_program("gymnasium_envs.py", mode="launcher", method=start_method).endswith("done\n")


@needs("pathos", "multiprocess")
def test_a_copy_of_multiprocessing_goes_on_beside_the_package(run_program, mode):
    """multiprocess, and pathos on top, are left alone; pools of the package work in the same program."""
    assert run_program("pathos_pools.py", mode=mode).endswith("done\n")


@needs("pandas")
def test_pandas_frames_are_worked_on_in_parallel(run_program, mode, start_method):
    """Frames go through a Pool unchanged."""
    assert run_program("pandas_pools.py", mode=mode, method=start_method).endswith("done\n")


@needs("requests")
def test_requests_fetch_from_pool_workers(run_program, mode, start_method):
    """Pages, whole responses and errors of HTTP come back from a Pool."""
    assert run_program("requests_pool.py", mode=mode, method=start_method).endswith("done\n")


@needs("rich")
def test_rich_shows_the_progress_of_workers(run_program, mode, start_method):
    """Workers report through a Manager's dict."""
    assert run_program("rich_progress.py", mode=mode, method=start_method).endswith("done\n")


@needs("concurrent_log_handler")
def test_processes_share_a_rotating_log_file(run_program, mode, start_method):
    """No line is lost when several processes write and rotate one file."""
    assert run_program("concurrent_log.py", mode=mode, method=start_method).endswith("done\n")


@needs("parmap")
def test_parmap_maps_like_a_loop(run_program, mode):
    """parmap gives a loop's results, on a pool of its own or a given one."""
    assert run_program("parmap_maps.py", mode=mode).endswith("done\n")
