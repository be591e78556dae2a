"""Locks and what is built on them, when a process that uses them dies."""

from __future__ import annotations

import os
import time
from typing import Any

from faults.subject import ctx, die, fault, ours, promptly, raises, run_and_kill, start, wait_until_asleep

# The standard library has nothing like it.
OWNER_DIED: Any = () if ours is None else ours.OwnerDied

DEATHS = ("SIGKILL", "os._exit", "exec")


def hold(line: Any, lock: Any) -> None:
    lock.acquire()
    line.send("there")
    time.sleep(60)


def hold_and_die(lock: Any, how: str) -> None:
    lock.acquire()
    die(how)


def block(line: Any, wait: Any) -> None:
    line.send("there")
    wait()


def go_on_with(lock: Any) -> None:
    """Acquire a lock whose holder died: OwnerDied is raised once, or not at all."""
    try:
        assert lock.acquire(timeout=5), "the lock stays held for ever"
    except OWNER_DIED:
        assert lock.acquire(timeout=5)
    lock.release()


def check_a_dead_holder(lock: Any) -> None:
    for how in DEATHS:
        start(hold_and_die, lock, how).join()
        with promptly():
            go_on_with(lock)


@fault("the holder of a Lock is killed, calls os._exit, becomes another program")
def lock_holder_dies() -> None:
    check_a_dead_holder(ctx.Lock())


@fault("the holder of an RLock dies in the same ways")
def rlock_holder_dies() -> None:
    check_a_dead_holder(ctx.RLock())


def acquire_patiently(line: Any, lock: Any) -> None:
    line.send("there")
    try:
        lock.acquire()
    except Exception as error:
        line.send(type(error).__name__)
    else:
        line.send("acquired")


@fault("the holder of a Lock is killed while another process sleeps on it")
def lock_holder_dies_before_a_waiter() -> None:
    from faults.subject import package

    lock = ctx.Lock()
    ready, theirs = package.Pipe()
    holder = start(hold, theirs, lock)
    ready.recv()
    line, theirs = package.Pipe()
    waiter = start(acquire_patiently, theirs, lock)
    line.recv()
    wait_until_asleep(waiter.pid)
    holder.kill()
    with promptly():
        assert line.poll(5), "the waiter was not woken"
    holder.join()
    waiter.join()


@fault("a process is killed while it waits for a Lock")
def lock_waiter_dies() -> None:
    lock = ctx.Lock()
    with lock:
        for _ in range(3):
            run_and_kill(block, lock.acquire)
    with promptly():
        assert lock.acquire(timeout=5)


@fault("a process is killed while it waits for a Semaphore")
def semaphore_waiter_dies() -> None:
    semaphore = ctx.Semaphore(0)
    for _ in range(3):
        run_and_kill(block, semaphore.acquire)
    semaphore.release()
    with promptly():
        assert semaphore.acquire(timeout=5)


def wait_in(line: Any, condition: Any) -> None:
    with condition:
        line.send("there")
        condition.wait()


@fault("a process is killed while it waits for a Condition")
def condition_waiter_dies() -> None:
    condition = ctx.Condition()
    run_and_kill_in_wait(condition)
    with condition:
        condition.notify_all()
    with condition:
        condition.notify()


def run_and_kill_in_wait(condition: Any) -> None:
    from faults.subject import package

    line, theirs = package.Pipe()
    process = start(wait_in, theirs, condition)
    line.recv()
    wait_until_asleep(process.pid)
    process.kill()
    process.join()


@fault("a process is killed in the middle of a Condition's block")
def condition_holder_dies() -> None:
    condition = ctx.Condition()
    run_and_kill(hold, condition)
    with promptly():
        go_on_with(condition)


@fault("a process is killed while it waits for an Event; the Event is set afterwards")
def event_waiter_dies() -> None:
    event = ctx.Event()
    for _ in range(2):
        run_and_kill_when_asleep(event.wait)
    with promptly():
        event.set()
        assert event.wait(5)
        event.clear()


def run_and_kill_when_asleep(wait: Any) -> None:
    from faults.subject import package

    line, theirs = package.Pipe()
    process = start(block, theirs, wait)
    line.recv()
    wait_until_asleep(process.pid)
    process.kill()
    process.join()


@fault("a party of a Barrier is killed while it waits; the others are told")
def barrier_party_dies() -> None:
    import threading

    barrier = ctx.Barrier(3)
    run_and_kill_when_asleep(barrier.wait)
    with raises(threading.BrokenBarrierError):
        barrier.wait(5)
    barrier.reset()
    assert not barrier.broken


def add_half(value: Any) -> None:
    with value.get_lock():
        value.value += 1
        os._exit(1)


@fault("a process dies under the lock of a Value")
def value_holder_dies() -> None:
    value = ctx.Value("i", 0)
    start(add_half, value).join()
    with promptly():
        go_on_with(value.get_lock())
        assert value.value == 1


@fault("a Lock whose holder died is repaired and used on", extension=True)
def lock_is_repaired() -> None:
    lock = ctx.Lock()
    start(hold_and_die, lock, "SIGKILL").join()
    assert lock.acquire(on_owner_died="hold")
    assert not lock.acquire(block=False)
    lock.release()
    with lock:
        pass
