"""Unused shared memory returns to the system, and a program can query how much there is."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest

import procession
from procession import _native

Run = Callable[..., "CompletedProcess[str]"]

MIB = 1 << 20
# A timeout for what takes about a second, in seconds: the machine may be busy.
LIMIT = 60


def resident() -> int:
    """The allocated size of the memory file, as the system reports it."""
    return os.fstat(_native.arena_fd()).st_blocks * 512


def within_the_limit(is_so: Callable[[], bool]) -> bool:
    """Whether the condition becomes true in time."""
    end = time.monotonic() + LIMIT
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


def fill(queue: object, size: int, count: int) -> None:
    """Put so many messages into a queue."""
    message = b"x" * size
    for _ in range(count):
        queue.put(message)  # type: ignore[attr-defined]


@pytest.fixture
def run_with_mounts() -> Run:
    """Runs a program that sees other files, by what a shell does before."""

    def run_it(mounts: str, program: str) -> CompletedProcess[str]:
        def command(*rest: str) -> list[str]:
            return [
                "unshare",
                "--mount",
                "--map-root-user",
                "sh",
                "-c",
                f'{mounts} && exec "$@"',
                "sh",
                *rest,
            ]

        if run(command("true"), capture_output=True).returncode != 0:
            pytest.skip("nothing can be mounted here")
        python = [sys.executable, "-c", textwrap.dedent(program)]
        return run(command(*python), capture_output=True, text=True, timeout=LIMIT)

    return run_it


# Slots, wide slots, blocks smaller than a page, blocks that share pages, and large ones.
SIZES = [(50, 400_000), (900, 60_000), (2_000, 30_000), (5_000, 12_000), (100_000, 600), (3 * MIB, 20)]


@pytest.mark.parametrize("size, count", SIZES)
def test_what_waited_in_a_queue_goes_back_when_it_was_received(size: int, count: int) -> None:
    """Of any size, while the queue lives, without a call."""
    queue = procession.Queue()
    queue.put(0)
    fill(queue, size, count)
    assert resident() > 32 * MIB
    for _ in range(count + 1):
        queue.get()
    assert within_the_limit(lambda: resident() <= 17 * MIB)
    fill(queue, size, 100)
    assert all(len(queue.get()) == size for _ in range(100))


@pytest.mark.parametrize("size, count", SIZES)
def test_nothing_stays_of_a_queue_that_is_gone(run_script: Run, size: int, count: int) -> None:
    """The memory returns at once, also that of messages that no process received."""
    program = """
    import os, procession
    from procession import _native

    queue = procession.Queue()
    message = b"x" * {size}
    for _ in range({count}):
        queue.put(message)
    for _ in range({count} // 2):
        queue.get()
    queue.close()
    queue.join_thread()
    del queue
    print(os.fstat(_native.arena_fd()).st_blocks * 512 >> 20, procession.memory_info()["in_use"])
    """
    ran = run_script(program.format(size=size, count=count))
    assert ran.stderr == ""
    mib, in_use = map(int, ran.stdout.split())
    # The metadata of so many blocks stays.
    assert (mib <= 6, in_use) == (True, 0)


def test_nothing_stays_of_a_pool_that_is_gone(run_script: Run, start_method: str) -> None:
    """The memory of arguments and results returns, whichever process frees it."""
    program = """
    import procession, time

    def work(data):
        return data * 2

    if __name__ == "__main__":
        with procession.get_context("{method}").Pool(2) as pool:
            for size in (2_000, 100_000, 5_000_000):
                assert len(pool.map(work, [bytes(size)] * 40)) == 40
        pool.join()
        del pool
        end = time.monotonic() + 60
        while procession.memory_info()["resident"] > 2 << 20 and time.monotonic() < end:
            time.sleep(0.05)
        print(procession.memory_info()["resident"] >> 20)
    """
    ran = run_script(program.format(method=start_method))
    assert ran.stderr == ""
    assert int(ran.stdout) <= 2


def test_messages_of_growing_sizes_take_no_more_than_there_are(run_script: Run) -> None:
    """No size keeps its own peak."""
    program = """
    import procession

    queue = procession.Queue()
    size = 10_000
    for _ in range(200):
        queue.put(bytes(size))
    while size < 1_000_000:
        size += 5_000
        for _ in range(20):
            queue.get()
            queue.put(bytes(size))
    procession.trim()
    memory = procession.memory_info()
    print(memory["resident"] <= memory["in_use"] * 5 // 4, memory["in_use"] >= 100 * size)
    """
    ran = run_script(program)
    assert (ran.stdout, ran.stderr) == ("True True\n", "")


def test_a_program_can_ask_how_much_there_is_and_give_it_back() -> None:
    """In bytes; the query allocates nothing."""
    queue = procession.Queue()
    fill(queue, 4 * MIB, 10)
    memory = procession.memory_info()
    assert set(memory) == {"in_use", "resident", "limit"}
    in_use, now = memory["in_use"], memory["resident"]
    assert in_use is not None and now is not None
    assert 40 * MIB <= in_use <= now == resident()
    assert memory["limit"] is None
    for _ in range(10):
        queue.get()
    given = procession.trim()
    assert given >= 30 * MIB
    assert resident() <= now - given
    assert procession.trim() < MIB


def test_asking_in_a_program_that_has_none_makes_none(run_script: Run) -> None:
    """`trim` allocates nothing either."""
    program = """
    import procession

    print(procession.memory_info(), procession.trim())
    print("memfd:procession" in open("/proc/self/maps").read())
    """
    ran = run_script(program)
    assert (ran.stdout, ran.stderr) == ("{'in_use': 0, 'resident': 0, 'limit': None} 0\nFalse\n", "")


def test_the_limit_of_the_environment_is_told(run_script: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PROCESSION_MEMORY`, in bytes."""
    monkeypatch.setenv("PROCESSION_MEMORY", "64M")
    ran = run_script("import procession; procession.Queue(); print(procession.memory_info()['limit'])")
    assert (ran.stdout, ran.stderr) == (f"{64 * MIB}\n", "")


def test_a_program_that_gave_memory_back_has_one_thread(run_script: Run) -> None:
    """Calls that need that, as `unshare` of a user namespace, work after `trim`."""
    program = """
    import os
    import procession

    queue = procession.Queue()
    for _ in range(20):
        for _ in range(40):
            queue.put(bytes(1 << 20))
        for _ in range(40):
            queue.get()
        procession.trim()
        assert len(os.listdir("/proc/self/task")) == 1
    print("one thread")
    """
    ran = run_script(program)
    assert (ran.stdout, ran.stderr) == ("one thread\n", "")


MEMINFO = """
MemTotal: 16000000 kB
MemFree: 20000 kB
MemAvailable: 40000 kB
SwapTotal: 64000000 kB
SwapFree: {swap} kB
"""


@pytest.mark.parametrize("swap, works", [(63_000_000, True), (0, False)])
def test_memory_is_refused_only_where_the_kernel_has_none_to_give(
    swap: int, works: bool, tmp_path: Path, run_with_mounts: Run
) -> None:
    """Free swap counts; with neither memory nor swap there is an error, before anybody is killed."""
    told = tmp_path / "meminfo"
    told.write_text(MEMINFO.format(swap=swap))
    program = """
    import procession

    queue = procession.Queue()
    try:
        for _ in range(10):
            queue.put(bytes(48 << 20))
            assert len(queue.get()) == 48 << 20
        print("works")
    except MemoryError as error:
        print("available memory" in str(error))
    """
    ran = run_with_mounts(f"mount --bind {told} /proc/meminfo", program)
    assert (ran.stdout, ran.stderr) == ("works\n" if works else "True\n", "")


def full(anonymous: int) -> dict[str, str]:
    """The files of a group that may have 512 MiB and uses 511, so many of which cannot be taken back."""
    rest = (511 - anonymous) * MIB
    parts = {
        "anon": anonymous * MIB,
        "active_file": rest // 2,
        "inactive_file": rest // 4,
        "slab_reclaimable": rest // 4,
    }
    stat = "".join(f"{name} {value}\n" for name, value in parts.items())
    return {"memory.max": f"{512 * MIB}\n", "memory.current": f"{511 * MIB}\n", "memory.stat": stat}


@pytest.mark.parametrize("anonymous, works", [(20, True), (511, False)])
def test_a_container_whose_limit_is_full_of_page_cache_has_memory(
    anonymous: int, works: bool, tmp_path: Path, run_with_mounts: Run
) -> None:
    """Groups of the second version, in a faked tree: what is cached goes when it is needed."""
    group = tmp_path / "groups" / "pod" / "app"
    group.mkdir(parents=True)
    for name, text in full(anonymous).items():
        (group / name).write_text(text)
    (tmp_path / "mine").write_text("0::/pod/app\n")
    (tmp_path / "mounts").write_text(f"30 25 0:26 / {tmp_path}/groups rw - cgroup2 cgroup2 rw\n")
    program = """
    import procession

    queue = procession.Queue()
    try:
        for _ in range(10):
            queue.put(bytes(16 << 20))
            assert len(queue.get()) == 16 << 20
        print("works")
    except MemoryError as error:
        print("pod/app" in str(error))
    """
    # The shell's number is the program's.
    mounts = (
        f"mount --bind {tmp_path}/mine /proc/$$/cgroup && mount --bind {tmp_path}/mounts /proc/$$/mountinfo"
    )
    ran = run_with_mounts(mounts, program)
    assert (ran.stdout, ran.stderr) == ("works\n" if works else "True\n", "")


@pytest.mark.parametrize("size, count", [(2_000, 30_000), (100_000, 600)])
def test_memory_follows_what_waits(size: int, count: int) -> None:
    """A quarter more than is in use, at most."""
    queue = procession.Queue()
    fill(queue, size, 2 * count)
    for _ in range(count):
        queue.get()

    def bound() -> float:
        return 1.25 * (procession.memory_info()["in_use"] or 0)

    assert bound() > 1.25 * size * count
    assert within_the_limit(lambda: resident() <= bound())
    assert all(len(queue.get()) == size for _ in range(count))


def test_the_books_of_many_small_messages_go_back_too() -> None:
    """With the last queue almost nothing remains, however many messages there were."""
    queue = procession.Queue()
    fill(queue, 1_500, 150_000)
    for _ in range(150_000):
        queue.get()
    queue.close()
    queue.join_thread()
    del queue
    assert within_the_limit(lambda: resident() <= 2 * MIB)


BURSTS = """
import os, sys, time
import procession

queue = procession.Queue()
for _ in range(3):
    for number in range(600):
        queue.put(bytes([number % 256]) * 100_000)
    for number in range(600):
        assert queue.get() == bytes([number % 256]) * 100_000
end = time.monotonic() + 60
while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
    time.sleep(0.05)
assert len(os.listdir("/proc/self/task")) == 1
print("much" if procession.memory_info()["resident"] > 32 << 20 else "little")
"""


@pytest.mark.parametrize("refused, stays", [(["madvise"], "little"), (["madvise", "fallocate"], "much")])
def test_where_memory_cannot_be_given_back_it_is_used_again(
    refused: list[str], stays: str, tmp_path: Path
) -> None:
    """The thread that returns memory does not retry for ever: it ends."""
    (tmp_path / "bursts.py").write_text(BURSTS)
    faults = Path(__file__).resolve().parents[2] / "faults" / "refused.py"
    command = [sys.executable, str(tmp_path / "bursts.py")]
    for call in refused:
        command = [sys.executable, str(faults), call, "EPERM", *command]
    ran = run(command, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == (f"{stays}\n", "")


def test_a_fork_meets_no_thread_that_gives_memory_back(run_script: Run) -> None:
    """Python 3.12 and later warn of a fork beside threads, of whatever kind."""
    program = """
    import os, warnings
    import procession

    warnings.simplefilter("error")
    queue = procession.Queue()
    for _ in range(30):
        for _ in range(20):
            queue.put(bytes(3 << 20))
        for _ in range(20):
            queue.get()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert len(os.listdir("/proc/self/task")) == 1
        os.waitpid(pid, 0)
    print("no thread")
    """
    ran = run_script(program)
    assert (ran.stdout, ran.stderr) == ("no thread\n", "")
