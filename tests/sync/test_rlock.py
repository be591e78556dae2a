"""An `RLock` between processes."""

import os
import signal
import threading

import pytest

import procession


def run(ctx, target, *args):
    """Run a function in a process of its own and return its exit code."""
    child = ctx.Process(target=target, args=args)
    child.start()
    child.join()
    return child.exitcode


def try_to_take(lock, taken):
    taken.value = lock.acquire(False)


def try_to_release(lock, refused):
    try:
        lock.release()
    except AssertionError:
        refused.value = True


def die_holding(lock):
    lock.acquire()
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_thread(function):
    """Call a function in another thread and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()), name="helper")
    thread.start()
    thread.join()
    return results[0]


def test_the_owner_may_acquire_again():
    """An RLock counts the acquisitions of its owner."""
    lock = procession.RLock()
    for _ in range(3):
        assert lock.acquire() is True
    for _ in range(2):
        lock.release()
        assert in_a_thread(lambda: lock.acquire(False)) is False
    lock.release()
    assert in_a_thread(lambda: lock.acquire(False)) is True


def test_with_nests():
    """`with` on an RLock nests."""
    lock = procession.RLock()
    with lock, lock:
        assert lock._count() == 2
    assert not lock.locked()


def test_releasing_what_is_not_owned_is_an_assertion_error():
    """Only the owner releases."""
    lock = procession.RLock()
    message = "^attempt to release recursive lock not owned by thread$"
    with pytest.raises(AssertionError, match=message):
        lock.release()

    def release():
        with pytest.raises(AssertionError, match=message):
            lock.release()
        return True

    with lock:
        assert in_a_thread(release)


def test_another_process_is_kept_out(ctx):
    """Neither acquire nor release work while the parent owns the lock."""
    lock, taken, refused = ctx.RLock(), ctx.RawValue("i", 7), ctx.RawValue("i", 0)
    with lock:
        assert run(ctx, try_to_take, lock, taken) == 0
        assert run(ctx, try_to_release, lock, refused) == 0
        assert lock._is_mine()
    assert (taken.value, refused.value) == (0, 1)


def test_repr_names_owner_and_count():
    """`repr` tells who owns the lock and how often."""
    lock = procession.RLock()
    assert repr(lock) == "<RLock(None, 0)>"
    with lock, lock:
        assert repr(lock) == "<RLock(MainProcess, 2)>"
        assert in_a_thread(lambda: repr(lock)) == "<RLock(SomeOtherThread, nonzero)>"

    def look():
        with lock:
            return repr(lock)

    assert in_a_thread(look) == "<RLock(MainProcess|helper, 1)>"


@pytest.mark.parametrize("how", [{"block": False}, {"timeout": 0}])
def test_a_try_of_the_owner_is_one_more_acquire(how):
    """The owner acquires at once what another thread is refused; `release` undoes it."""
    lock = procession.RLock()
    with lock:
        assert lock.acquire(**how) is True and lock._count() == 2
        assert in_a_thread(lambda: lock.acquire(**how)) is False
        lock.release()
    assert not lock.locked()


def test_a_killed_owner_is_reported_once(ctx):
    """The next acquirer gets OwnerDied, however often the dead had acquired."""
    lock = ctx.RLock()
    assert run(ctx, die_holding, lock) == -signal.SIGKILL
    with pytest.raises(procession.OwnerDied):
        lock.acquire()
    with lock:
        assert lock._count() == 1


def test_a_killed_owners_lock_can_be_held_for_repair(ctx):
    """`on_owner_died="hold"` returns owning the lock once."""
    lock = ctx.RLock()
    run(ctx, die_holding, lock)
    assert lock.acquire(on_owner_died="hold") is True
    assert (lock._is_mine(), lock._count()) == (True, 1)
    lock.release()
    assert not lock.locked()
