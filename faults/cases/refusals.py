"""A sandbox or a kernel refuses one system call: everything works.

The program imports the package before it enters the sandbox, or starts inside it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from faults.cases.limits import refuse, use_everything
from faults.subject import METHOD, ctx, fault, package, raises, start

ROOT = Path(__file__).resolve().parents[2]
CODES = ("ENOSYS", "EPERM", "EACCES")


def die(code: int) -> None:
    sys.exit(code)


def start_one(code: int) -> None:
    child = start(die, code)
    child.join(20)
    sys.exit(child.exitcode + 1)


def see_parent(answers: Any) -> None:
    answers.send(package.parent_process().is_alive())


def use_more() -> None:
    """Use what depends on the refused calls: process exits and exit codes, signals, descriptors."""
    use_everything()
    grandparent = start(start_one, 3)
    grandparent.join(20)
    assert grandparent.exitcode == 4
    for daemon, stop in ((False, "terminate"), (True, "kill")):
        process = ctx.Process(target=time.sleep, args=(60,), daemon=daemon)
        process.start()
        process.join(0.05)
        assert process.is_alive() and process.exitcode is None
        getattr(process, stop)()
        process.join(20)
        assert process.exitcode in (-15, -9), process.exitcode
        assert package.connection.wait([process.sentinel], 20) == [process.sentinel]
    here, there = ctx.Pipe()
    child = start(see_parent, there)
    assert here.poll(20) and here.recv() is True
    child.join(20)
    box = ctx.Queue()
    box.put(1)
    assert package.connection.wait([box._reader], 20) == [box._reader] and box.get(timeout=20) == 1
    with ctx.Manager() as manager:
        table, items = manager.dict(), manager.list([1])
        table["a"] = 1
        items.append(2)
        assert (dict(table), list(items)) == ({"a": 1}, [1, 2])


def check(call: str) -> None:
    """Refuse the call with each error, in one program each, side by side."""
    kinds = [(code, when) for code in CODES for when in ("first", "later")]
    if call == "getrandom":
        # Python itself starts only if the call fails with one of the other errors.
        kinds = [kind for kind in kinds if kind[0] != "EACCES"]
    command = [sys.executable, os.path.abspath(__file__), call]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROCESSION_FALLBACK": "quiet"}
    runs = [
        subprocess.Popen(
            [*command, code, when],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for code, when in kinds
    ]
    for run, (code, when) in zip(runs, kinds, strict=True):
        said, _ = run.communicate()
        assert (run.returncode, said) == (0, "works\n"), f"{call} {code}, refused {when}: {said}"


@fault("memfd_create is refused by a sandbox")
def no_memfd_create() -> None:
    check("memfd_create")


@fault("pidfd_open is refused by a sandbox")
def no_pidfd_open() -> None:
    check("pidfd_open")


@fault("pidfd_send_signal is refused by a sandbox")
def no_pidfd_send_signal() -> None:
    check("pidfd_send_signal")


@fault("waitid is refused by a sandbox")
def no_waitid() -> None:
    check("waitid")


@fault("madvise is refused by a sandbox, so that no page is wiped in a child")
def no_madvise() -> None:
    check("madvise")


@fault("getrandom is refused by a sandbox")
def no_getrandom() -> None:
    check("getrandom")


@fault("set_robust_list is refused by a sandbox")
def no_set_robust_list() -> None:
    check("set_robust_list")


def hold(lock: Any, told: Any) -> None:
    lock.acquire()
    told.send("held")
    time.sleep(60)


@fault("set_robust_list is refused, and a process is killed that holds a lock", extension=True)
def death_without_robust_lists() -> None:
    if METHOD == "forkserver":
        # The fork server is started first.
        start(die, 0).join(20)
    refuse("set_robust_list", errno.ENOSYS)
    lock = ctx.Lock()
    here, there = ctx.Pipe()
    holder = start(hold, lock, there)
    assert here.poll(20) and here.recv() == "held"
    holder.kill()
    with raises(package.OwnerDied):
        lock.acquire(timeout=20)
        raise AssertionError("nobody said that the owner died")


@fault("epoll_create1 is refused by a sandbox")
def no_epoll() -> None:
    check("epoll_create1")


@fault("eventfd2 is refused by a sandbox")
def no_eventfd() -> None:
    check("eventfd2")


@fault("fallocate is refused by a sandbox")
def no_fallocate() -> None:
    check("fallocate")


@fault("futex_waitv is refused by a sandbox")
def no_futex_waitv() -> None:
    check("futex_waitv")


if __name__ == "__main__":
    name, error, moment = sys.argv[1:]
    if name:
        refuse(name, getattr(errno, error))
    if moment == "first":
        os.execv(sys.executable, [sys.executable, __file__, "", error, "here"])
    use_more()
    print("works", flush=True)
