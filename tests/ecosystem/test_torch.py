"""torch: DataLoader and torch.multiprocessing."""

from __future__ import annotations

import pytest

from harness import needs

pytestmark = needs("torch")


@pytest.fixture(params=["file_descriptor", "file_system"])
def sharing(request: pytest.FixtureRequest) -> str:
    """Each of torch's ways to share a tensor's memory."""
    return request.param


def test_data_loader_gives_the_batches_of_a_serial_one(run_program, mode, start_method, sharing):
    """Two workers give the same batches in the same order; their errors come back."""
    output = run_program("torch_loader.py", sharing, mode=mode, method=start_method, timeout=120)
    assert output.endswith("done\n")


def test_tensors_travel_between_processes(run_program, mode, start_method, sharing):
    """Tensors arrive whole through Queue, Pipe, Pool and shared memory, and `spawn` starts its ranks."""
    output = run_program("torch_processes.py", sharing, mode=mode, method=start_method, timeout=120)
    assert output.endswith("done\n")
