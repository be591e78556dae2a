"""Programs that reach a limit or lack a permission: they work, or report what is wrong."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import platform
import resource
import struct
import time
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any

from faults.subject import METHOD, ctx, fault, package, raises, start

SMALL = 40


def square(x: int) -> int:
    return x * x


def use_everything() -> None:
    """Use every part of the package once."""
    box, lock, value = ctx.Queue(), ctx.Lock(), ctx.Value("i", 0)
    process = start(work, box, lock, value)
    assert box.get(timeout=20) == "done"
    process.join(20)
    assert process.exitcode == 0 and value.value == 1
    with ctx.Pool(2) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]


def work(box: Any, lock: Any, value: Any) -> None:
    with lock:
        value.value += 1
    box.put("done")


@contextmanager
def limited(what: int, soft: int) -> Any:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@fault("descriptors run out while pipes and processes are made")
def descriptors_run_out() -> None:
    use_everything()
    kept = []
    with limited(resource.RLIMIT_NOFILE, SMALL):
        with raises(OSError):
            for _ in range(10 * SMALL):
                kept.append(package.Pipe())
                kept.append(start(time.sleep, 0))
    for one in kept:
        if not isinstance(one, tuple):
            one.join()
    kept.clear()
    use_everything()


@fault("descriptors run out while pools are made")
def descriptors_run_out_for_pools() -> None:
    pools: list[Any] = []
    with limited(resource.RLIMIT_NOFILE, SMALL):
        with raises(OSError):
            for _ in range(SMALL):
                pools.append(ctx.Pool(2))
    for pool in pools:
        pool.terminate()
        pool.join()
    use_everything()


@fault("memory runs out (RLIMIT_AS) while large messages are put")
def memory_runs_out() -> None:
    use_everything()
    box = ctx.Queue()
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    with limited(resource.RLIMIT_AS, used + (300 << 20)):
        with raises(MemoryError, OSError):
            for _ in range(100):
                box.put(bytes(50 << 20))
    while not box.empty():
        box.get(timeout=10)
    del box
    use_everything()


@fault("files may not grow (RLIMIT_FSIZE)")
def files_may_not_grow() -> None:
    with limited(resource.RLIMIT_FSIZE, 1 << 16):
        try:
            use_everything()
            box = ctx.Queue()
            for _ in range(20):
                box.put(bytes(4 << 20))
            for _ in range(20):
                box.get(timeout=10)
        except (MemoryError, OSError) as error:
            assert str(error)
    use_everything()


@fault("ten thousand queues at a time", once=True)
def many_queues() -> None:
    queues = []
    for number in range(10_000):
        box = ctx.Queue()
        box.put(number)
        queues.append(box)
    for number, box in enumerate(queues):
        assert box.get(timeout=10) == number
    del queues, box
    use_everything()


# The first system call that Linux 5.4 lacks; it lacks all later ones too.
LATER = "close_range"
REFUSABLE = {
    "x86_64": {
        LATER: 436,
        "clone": 56,
        "vfork": 58,
        "epoll_create1": 291,
        "eventfd2": 290,
        "fallocate": 285,
        "futex_waitv": 449,
        "getrandom": 318,
        "madvise": 28,
        "memfd_create": 319,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "set_robust_list": 273,
        "waitid": 247,
    },
    "aarch64": {
        LATER: 436,
        "clone": 220,
        # What the C library does instead.
        "vfork": 220,
        "epoll_create1": 20,
        "eventfd2": 19,
        "fallocate": 47,
        "futex_waitv": 449,
        "getrandom": 278,
        "madvise": 233,
        "memfd_create": 279,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "set_robust_list": 99,
        "waitid": 95,
    },
}

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, JUMP_FROM_THERE_ON, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def refuse(call: str, code: int) -> None:
    """Make the kernel refuse a system call to this process and to every process it starts."""
    number = REFUSABLE[platform.machine()][call]
    jump = JUMP_FROM_THERE_ON if call == LATER else JUMP_IF_EQUAL
    program = b"".join(
        struct.pack("=HBBI", *step)
        for step in [
            (LOAD, 0, 0, 0),
            (jump, 0, 1, number),
            (RETURN, 0, 0, ERRNO | code),
            (RETURN, 0, 0, ALLOW),
        ]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    code_of = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code_of))
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0) == 0, os.strerror(
        ctypes.get_errno()
    )


@fault("the kernel knows no call that is newer than Linux 5.4")
def old_kernel() -> None:
    refuse(LATER, errno.ENOSYS)
    use_everything()


@fault("there may be no more processes: starting one fails, again and again; all else works")
def processes_run_out() -> None:
    box = ctx.Queue()
    start(put_one, box).join()
    refuse("clone", errno.EAGAIN)
    refuse("vfork", errno.EAGAIN)
    for _ in range(3):
        with raises(OSError):
            start(put_one, box)
            # A server that started earlier, and is not under the limit itself, finds it out.
            raise OSError if METHOD == "forkserver" else AssertionError
        if METHOD != "forkserver":
            with raises(OSError):
                ctx.Pool(2)
    assert box.get(timeout=5) == "one"
    box.put("two")
    assert box.get(timeout=5) in ("one", "two")


def put_one(box: Any) -> None:
    box.put("one")


HOLDERS = 30


@contextmanager
def memory_used_up() -> Any:
    """Use up shared memory, down to the smallest block."""
    filled = ctx.Queue()
    for size in (1 << 20, 200_000, 20_000, 3_000, 1_200, 300, 50):
        with raises(MemoryError):
            while True:
                filled.put(bytes(size))
    yield
    # A copy that was forked meanwhile drains it too.
    with suppress(Empty):
        while True:
            filled.get_nowait()


def add(value: Any, go: Any) -> None:
    assert go.wait(20)
    with value.get_lock():
        value.value += 1


@fault("shared memory is used up while thirty processes are started that share a value", extension=True)
def holders_find_no_room() -> None:
    os.environ["PROCESSION_MEMORY"] = "24M"
    value, go = ctx.Value("i", 0), ctx.Event()
    started, refused = [], 0
    with memory_used_up():
        for _ in range(HOLDERS):
            process = ctx.Process(target=add, args=(value, go))
            try:
                process.start()
            except (MemoryError, OSError):
                refused += 1
            else:
                started.append(process)
    assert refused or METHOD != "fork"
    # Each started process holds its objects; a refused start left nothing behind.
    late = start(add, value, go)
    go.set()
    for process in (*started, late):
        process.join(20)
        assert process.exitcode == 0, process
    assert value.value == len(started) + 1


@fault("shared memory is used up, and a plain os.fork uses what it could not be entered in", extension=True)
def plain_forks_find_no_room() -> None:
    os.environ["PROCESSION_MEMORY"] = "24M"
    box, value = ctx.Queue(), ctx.Value("i", 0)
    go, outcomes = os.pipe(), os.pipe()
    children = []
    with memory_used_up():
        for _ in range(HOLDERS):
            pid = os.fork()
            if pid == 0:
                os.read(go[0], 1)
                try:
                    box.put("from a child")
                    with value.get_lock():
                        value.value += 1
                    os.write(outcomes[1], b"used")
                except RuntimeError:
                    os.write(outcomes[1], b"told")
                finally:
                    os._exit(0)
            children.append(pid)
    os.write(go[1], b"x" * HOLDERS)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    told = os.read(outcomes[0], 1000)
    assert told.count(b"told") and told.count(b"used") + told.count(b"told") == HOLDERS
    assert value.value == told.count(b"used")
    for _ in range(value.value):
        assert box.get(timeout=5) == "from a child"
    assert box.empty()


@fault("shared memory is used up, and a process with received arrays forks", extension=True)
def arrays_find_no_lease() -> None:
    os.environ["PROCESSION_MEMORY"] = "24M"
    box = ctx.Queue()
    arrays = []
    for number in range(50):
        box.put(pickle.PickleBuffer(bytearray([number]) * 40_000))
        arrays.append(memoryview(box.get(timeout=5)))
    go, outcome = os.pipe(), os.pipe()
    with memory_used_up():
        pid = os.fork()
    if pid == 0:
        os.read(go[0], 1)
        wrong = sum(one[5] != number for number, one in enumerate(arrays))
        for one in arrays:
            one[6] = 255
        os.write(outcome[1], b"%d" % wrong)
        os._exit(0)
    for one in arrays:
        one[5] = 254
    os.write(go[1], b"x")
    assert os.read(outcome[0], 10) == b"0"
    assert os.waitpid(pid, 0)[1] == 0
    assert all(one[6] == number for number, one in enumerate(arrays))
