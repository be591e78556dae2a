"""A fork that lacks a resource (memory, a buffer, a mapping) reports it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., "CompletedProcess[str]"]

# Every program below begins with this.
COMMON = """
import ctypes, gc, os, signal, sys, time
os.environ["PROCESSION_MEMORY"] = "{limit}"
import procession as mp
from procession import _native

SECONDS = 30


def fill(ctx):
    "Takes what is left of the shared memory, down to the smallest block."
    box = ctx.Queue()
    for size in (1 << 20, 200_000, 20_000, 3_000, 1_200, 300, 50):
        try:
            while True:
                box.put(bytes(size))
        except MemoryError:
            pass
    return box


def drain(box):
    while not box.empty():
        box.get()


def outcome(use):
    "What comes of it: a value, or the name of an error."
    try:
        return use()
    except Exception as error:
        return type(error).__name__


def add_one(value):
    with value.get_lock():
        value.value += 1


def strangers(count, ctx):
    "New objects, which may lie where others did, and how many of them somebody else used."
    boxes = [(ctx.Queue(), ctx.Value("i", 0)) for _ in range(count)]
    return lambda: sum(not box.empty() or value.value != 0 for box, value in boxes)


def reap(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def program(text: str, limit: str = "4M") -> str:
    """The whole of a program."""
    return COMMON.format(limit=limit) + textwrap.dedent(text)


def printed(done: CompletedProcess[str]) -> list[str]:
    """The output lines of a successful program."""
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_process_for_whose_name_there_is_no_room_is_not_started(run_script: Run) -> None:
    """`start` raises, leaves nothing behind, and works again once there is memory."""
    text = """
    def child(box, value, go):
        go.wait(SECONDS)
        add_one(value)

    if __name__ == "__main__":
        ctx = mp.get_context("fork")
        box, value, go = ctx.Queue(), ctx.Value("i", 0), ctx.Event()
        before = len(os.listdir("/proc/self/fd"))
        filled = fill(ctx)
        started, refused = [], 0
        for _ in range(30):
            process = ctx.Process(target=child, args=(box, value, go))
            try:
                process.start()
            except MemoryError as error:
                assert "shared memory" in str(error), error
                assert process.pid is None and process.exitcode is None
                refused += 1
            else:
                started.append(process)
        assert started and refused and len(mp.active_children()) == len(started)
        assert _native.memory_stats()["processes"] == 1 + len(started)
        drain(filled)
        late = ctx.Process(target=child, args=(box, value, go))
        late.start()
        go.set()
        for process in (*started, late):
            process.join()
            assert process.exitcode == 0
            process.close()
        assert value.value == len(started) + 1
        assert _native.memory_stats()["processes"] == 1
        more = len(os.listdir("/proc/self/fd")) - before
        print(more, "descriptors more", outcome(lambda: os.waitpid(-1, os.WNOHANG)))
    """
    assert printed(run_script(program(text))) == ["0 descriptors more ChildProcessError"]


def test_a_plain_fork_without_room_may_not_use_what_it_does_not_hold(run_script: Run) -> None:
    """Each use raises, also when the objects were freed and others took their place."""
    text = """
    if __name__ == "__main__":
        ctx = mp.get_context("fork")
        box, value, lock, event = ctx.Queue(), ctx.Value("i", 0), ctx.Lock(), ctx.Event()
        filled = fill(ctx)
        go, ready, told = os.pipe(), os.pipe(), os.pipe()
        children = []
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os.read(go[0], 1)
                said = [
                    outcome(lambda: box.put("from a child")),
                    outcome(lambda: box.get(timeout=SECONDS)),
                    outcome(lambda: add_one(value)),
                    outcome(lock.acquire),
                    outcome(lambda: event.wait(SECONDS)),
                    outcome(lambda: event.set()),
                ]
                os.write(told[1], f"{' '.join(map(str, set(said)))}\\n".encode())
                os._exit(0)
            children.append(pid)
        # Whose names are written down have ended, so nobody keeps the objects.
        drain(filled)
        holders = children[:11]
        for pid in holders:
            os.kill(pid, signal.SIGKILL)
            reap(pid)
        _native.reap_all()
        del box, value, lock, event
        gc.collect()
        used = strangers(50, ctx)
        os.write(go[1], b"x" * len(children))
        assert [reap(pid) for pid in children[11:]] == [0] * 9
        os.close(told[1])
        print(set(os.read(told[0], 10_000).decode().splitlines()), used())
    """
    assert printed(run_script(program(text))) == ["{'RuntimeError'} 0"]


def test_a_forked_child_that_lacks_something_hands_nothing_of_it_on(run_script: Run) -> None:
    """Its own child may not use it either, and neither frees anything that it does not own."""
    text = """
    if __name__ == "__main__":
        ctx = mp.get_context("fork")
        box = ctx.Queue()
        box.put("kept")
        filled = fill(ctx)
        pids = []
        go = os.pipe()
        for _ in range(14):
            pid = os.fork()
            if pid == 0:
                os.read(go[0], 1)
                first = outcome(box.qsize)
                pid = os.fork()
                if pid == 0:
                    os._exit(0 if outcome(box.qsize) == first else 1)
                code = reap(pid)
                del box
                gc.collect()
                os._exit(code or (3 if first == 1 else 4))
            pids.append(pid)
        drain(filled)
        os.write(go[1], b"x" * len(pids))
        codes = [reap(pid) for pid in pids]
        print(set(codes) == {3, 4}, box.get(timeout=SECONDS))
    """
    assert printed(run_script(program(text))) == ["True kept"]


def test_a_clone_that_the_engine_was_not_told_of_may_use_what_is_still_there(run_script: Run) -> None:
    """It may not use what its parent freed before the clone's first use."""
    text = """
    def clone():
        libc = ctypes.CDLL(None)
        number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        return libc.syscall(*map(ctypes.c_long, (number, signal.SIGCHLD, 0, 0, 0, 0)))

    if __name__ == "__main__":
        box, value, kept, reader, writer = mp.Queue(), mp.Value("i", 0), mp.Queue(), *mp.Pipe(False)
        go, done = os.pipe(), os.pipe()
        pid = clone()
        if pid == 0:
            os.read(go[0], 1)
            said = {
                outcome(lambda: box.put("from a clone")),
                outcome(lambda: box.get(timeout=SECONDS)),
                outcome(lambda: add_one(value)),
                outcome(lambda: writer.send(1)),
                outcome(lambda: reader.recv()),
            }
            kept.put(said)
            os._exit(0)
        del box, value, reader, writer
        gc.collect()
        used = strangers(20, mp)
        os.write(go[1], b"x")
        print(kept.get(timeout=SECONDS), used(), reap(pid))
    """
    assert printed(run_script(program(text, "64M"))) == ["{'RuntimeError'} 0 0"]


ARRAYS = """
import numpy as np


def received(ctx, count, size, keep=1):
    "Arrays that were received, one in `keep` of them; each begins with its number."
    box, arrays = ctx.Queue(), []
    for number in range(count * keep):
        sent = np.zeros(size // 4, np.uint32)
        sent[0] = number
        box.put(sent)
        array = box.get()
        if number % keep == 0:
            arrays.append(array)
        else:
            del array
    return arrays


def tell_apart(arrays, pipes, keep=1):
    "In a child: how many arrays are not as they were at the fork, when its parent has written to its own."
    os.read(pipes[0][0], 1)
    wrong = sum(array[0] != n * keep or array[1:].any() for n, array in enumerate(arrays))
    for array in arrays:
        array[2] = 254
    os.write(pipes[1][1], b"%d" % wrong)
"""


def with_arrays(text: str, limit: str = "1G") -> str:
    """As `program`."""
    return program("", limit) + ARRAYS + textwrap.dedent(text)


@pytest.mark.parametrize("how", ["os.fork", "Process"])
def test_arrays_stay_each_ones_own_when_shared_memory_is_used_up(how: str, run_script: Run) -> None:
    """Neither process sees what the other writes after the fork."""
    text = """
    def child(arrays, pipes):
        tell_apart(arrays, pipes)
        os._exit(0)

    if __name__ == "__main__":
        ctx = mp.get_context("fork")
        arrays = received(ctx, 200, 40_000)
        filled = fill(ctx)
        pipes = os.pipe(), os.pipe()
        if sys.argv[1] == "os.fork":
            pid = os.fork()
            if pid == 0:
                child(arrays, pipes)
        else:
            process = ctx.Process(target=child, args=(arrays, pipes))
            process.start()
            pid = process.pid
        for array in arrays:
            array[1] = 255
        os.write(pipes[0][1], b"x")
        seen = int(os.read(pipes[1][0], 100))
        changed = sum(int(array[2] == 254) for array in arrays)
        print(seen, changed, reap(pid), sum(array[1] == 255 for array in arrays))
    """
    done = run_script(with_arrays(text, "24M"), how)
    assert printed(done) == ["0 0 0 200"]


@pytest.mark.parametrize("closed", [False, True], ids=["", "its descriptors closed"])
def test_many_arrays_do_not_use_up_the_mappings_of_a_process(closed: bool, run_script: Run) -> None:
    """Every other array stays, so that no two are adjacent; they come and go, and it forks again."""
    text = """
    def maps():
        with open("/proc/self/maps") as lines:
            return len(list(lines))

    def fork_and_look(arrays, keep):
        pipes = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            tell_apart(arrays, pipes, keep)
            os._exit(0)
        for array in arrays:
            array[1] = 255
        os.write(pipes[0][1], b"x")
        seen = int(os.read(pipes[1][0], 100))
        changed = sum(int(array[2] == 254) for array in arrays)
        for array in arrays:
            array[1] = 0
        for end in (*pipes[0], *pipes[1]):
            os.close(end)
        return seen, changed, reap(pid)

    if __name__ == "__main__":
        count = int(sys.argv[1])
        first = received(mp, count, 12_000, keep=2)
        if sys.argv[2] == "True":
            os.closerange(3, 1000)
        before = maps()
        print(fork_and_look(first, 2))
        second = received(mp, count, 12_000, keep=2)
        print(fork_and_look(second, 2), fork_and_look(first, 2))
        del first[::2]
        for _ in range(4):
            third = received(mp, count // 2, 12_000, keep=2)
            print(fork_and_look(third, 2), fork_and_look(second, 2))
        print(maps() - before < 200 or sys.argv[2] == "True")
        del first, second, third
        box = mp.Queue()
        box.put(bytes(12_000))
        print(box.get() == bytes(12_000))
    """
    whole = with_arrays(text)
    lines = printed(run_script(whole, "300" if closed else "2000", str(closed)))
    alone = "(0, 0, 0)"
    assert lines == [alone, *[f"{alone} {alone}"] * 5, "True", "True"]


def test_a_child_that_cannot_have_its_arrays_to_itself_ends(run_script: Run) -> None:
    """With no mapping left; the parent keeps its arrays, `start` raises, and with mappings it works again."""
    text = """
    import mmap

    def use_up():
        "Takes all mappings but a few that a process needs to go on."
        kept = []
        try:
            while True:
                # Neighbours of one kind would be one mapping.
                kept.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ))
                kept.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        except OSError:
            return kept

    if __name__ == "__main__":
        ctx = mp.get_context("fork")
        arrays = received(ctx, 4, 1 << 20)
        kept = use_up()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        ended = reap(pid)
        started = outcome(ctx.Process(target=os.getpid).start)
        del kept
        changed = sum(array[0] != n for n, array in enumerate(arrays))
        process = ctx.Process(target=os.getpid)
        process.start()
        process.join()
        print(ended, started, changed, process.exitcode)
    """
    whole = with_arrays(text)
    done = run_script(whole)
    (line,) = printed(done)
    ended, started, changed, code = line.split()
    assert (ended, changed, code) == ("71", "0", "0")
    assert started in ("OSError", "MemoryError")
    assert "received arrays" in done.stderr


def test_arrays_take_no_second_memory_once_the_child_is_gone(run_script: Run) -> None:
    """A process that forks and goes on to change what it received has it once, whatever it forks later."""
    text = """
    def shared_bytes():
        return mp.memory_info()["resident"]

    if __name__ == "__main__":
        arrays = received(mp, 4, 16 << 20)
        go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(go[0], 1)
            os._exit(0)
        assert shared_bytes() > 60 << 20
        for array in arrays:
            array[1] = 255
        os.write(go[1], b"x")
        reap(pid)
        end = time.monotonic() + SECONDS
        while shared_bytes() > 4 << 20 and time.monotonic() < end:
            time.sleep(0.01)
        print(shared_bytes() <= 4 << 20)
        def wrong(rest):
            right = ([n, 255] for n in range(4))
            return sum(list(array[:2]) != begin or array[rest:].any() for array, begin in zip(arrays, right))

        pid = os.fork()
        if pid == 0:
            arrays[0][2] = 7
            os._exit(wrong(3))
        print(reap(pid), wrong(2))
        del arrays
        gc.collect()
        box = mp.Queue()
        box.put(b"again" * (3 << 20))
        print(box.get() == b"again" * (3 << 20))
    """
    whole = with_arrays(text)
    assert printed(run_script(whole)) == ["True", "0 0", "True"]


def test_many_objects_that_many_processes_hold_take_little_memory(run_script: Run) -> None:
    """Forty processes that hold two thousand locks: some megabytes, and not 16 KiB for each lock."""
    text = """
    if __name__ == "__main__":
        ctx = mp.get_context("fork")
        locks = [ctx.Lock() for _ in range(2000)]
        go = ctx.Event()
        before = mp.memory_info()["in_use"]
        processes = [ctx.Process(target=go.wait, args=(SECONDS,)) for _ in range(40)]
        for process in processes:
            process.start()
        more = mp.memory_info()["in_use"] - before
        go.set()
        for process in processes:
            process.join()
        print(more < 2000 * 2048, {process.exitcode for process in processes})
    """
    assert printed(run_script(program(text, "1G"))) == ["True {0}"]


def test_a_fork_beside_received_arrays_warns_of_no_thread(run_script: Run) -> None:
    """Python 3.12 and later warn of a fork beside threads, also of the one that waits for the child's end."""
    text = """
    import warnings

    if __name__ == "__main__":
        warnings.simplefilter("error")
        arrays = received(mp, 4, 1 << 20)
        go = os.pipe()
        pids = []
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os.read(go[0], 1)
                os._exit(0)
            pids.append(pid)
            # More for the thread to wait for, and the time for it to be there.
            arrays += received(mp, 1, 1 << 20)
            time.sleep(0.01)
        os.write(go[1], b"x" * 20)
        print({reap(pid) for pid in pids})
    """
    done = run_script(with_arrays(text))
    assert (printed(done), done.stderr) == (["{0}"], "")
