"""Kernels whose pages have 16 or 64 KiB, as on aarch64: everything works, and no page is shared wrongly."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., "CompletedProcess[str]"]

PROGRAM = """
    import procession as mp
    from procession import _native
    import mmap

    def square(number):
        return number * number

    def change(array):
        array[:] = bytes(len(array))

    def through_a_queue(message):
        queue = mp.Queue()
        queue.put(message)
        return queue.get(timeout=20) == message

    if __name__ == "__main__":
        print(mmap.PAGESIZE)
        ctx = mp.get_context("{method}")
        sizes = (1, 2_000, 20_000, 40_000, 100_000, 300_000, 1_000_000, 50_000_000)
        print(all(through_a_queue(b"x" * size) for size in sizes), through_a_queue(list(range(9))))
        locks = len([mp.Lock() for _ in range(5000)])
        print(mp.Lock().acquire(), mp.Value("i", 3).value, mp.Array("d", 1000)[0], locks)
        with ctx.Pool(2) as pool:
            print(pool.map(square, range(5)))
        # Arrays that two processes have after a fork, as memory of their own each.
        queue = mp.Queue()
        arrays = []
        for size in (30_000, 70_000, 200_000, 1_000_000):
            queue.put(bytearray(b"y" * size))
            arrays.append(queue.get(timeout=20))
        for array in arrays:
            child = mp.get_context("fork").Process(target=change, args=(array,))
            child.start()
            child.join()
        print(all(array == b"y" * len(array) for array in arrays))
        # Neighbours of what is given back stay as they are.
        for _ in range(3):
            messages = [bytes([number % 256]) * 3_000 for number in range(3_000)]
            for message in messages:
                queue.put(message)
            for message in messages[:2_000]:
                assert queue.get(timeout=20) == message
            given = mp.trim()
            for message in messages[2_000:]:
                assert queue.get(timeout=20) == message
        print(given > 1_000_000)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that simulates large pages on a kernel with small ones."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("pages") / "large_pages.so"
    source = Path(__file__).resolve().parents[1] / "support" / "large_pages.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("size", [16 << 10, 64 << 10])
def test_everything_works_with_large_pages(
    run_script: Run, monkeypatch: pytest.MonkeyPatch, shim: Path, size: int, start_method: str
) -> None:
    """Queues, pools, values, arrays over a fork, giving memory back."""
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("PAGES", str(size))
    ran = run_script(PROGRAM.format(method=start_method))
    said = [str(size), "True True", "True 3 0.0 5000", "[0, 1, 4, 9, 16]", "True", "True"]
    assert (ran.stdout.splitlines(), ran.stderr) == (said, "")
