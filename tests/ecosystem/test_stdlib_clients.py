"""Modules of the standard library that use `multiprocessing`; these tests need no library."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("program", ["executor.py", "asyncio_executor.py", "logging_queue.py"])
def test_program_of_the_standard_library_runs_on_every_start_method(run_program, program, mode, start_method):
    """concurrent.futures, asyncio and logging give what a serial run gives."""
    assert run_program(program, mode=mode, method=start_method).endswith("done\n")


def test_compileall_compiles_in_processes_of_the_package(run_program, tmp_path):
    """`compileall -j 2` compiles every file, in the package's processes."""
    for n in range(4):
        (tmp_path / f"module{n}.py").write_text(f"x = {n}\n")
    run_program("watched.py", "compileall", "-q", "-j", "2", ".", mode="launcher")
    assert len(list(tmp_path.rglob("*.pyc"))) == 4
