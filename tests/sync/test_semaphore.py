"""`Semaphore` and `BoundedSemaphore` between processes."""

import os
import pickle
import signal

import pytest

import procession


def take_and_die(semaphore):
    semaphore.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def ping_pong(mine, theirs, times):
    for _ in range(times):
        mine.acquire()
        theirs.release()


def over_release(semaphore, refused):
    try:
        semaphore.release()
    except ValueError:
        refused.value = True


def test_a_semaphore_counts_down_and_up():
    """Units are taken and given back one at a time."""
    semaphore = procession.Semaphore(2)
    assert semaphore.acquire() and semaphore.acquire(True, 0)
    assert semaphore.get_value() == 0
    assert semaphore.acquire(False) is False
    assert semaphore.acquire(timeout=0.01) is False
    for value in (1, 2, 3):
        semaphore.release()
        assert semaphore.get_value() == value


def test_a_bounded_semaphore_does_not_rise_above_its_first_value():
    """Releasing too often is an error and changes nothing."""
    semaphore = procession.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="^semaphore or lock released too many times$"):
        semaphore.release()
    with semaphore:
        assert semaphore.get_value() == 0
    assert semaphore.get_value() == 1


def test_the_bound_holds_in_other_processes(ctx):
    """A child may not raise a bounded semaphore either."""
    semaphore, refused = ctx.BoundedSemaphore(1), ctx.RawValue("i", 0)
    child = ctx.Process(target=over_release, args=(semaphore, refused))
    child.start()
    child.join()
    assert (refused.value, semaphore.get_value()) == (1, 1)


def test_processes_wake_each_other(ctx):
    """Two processes take turns through two semaphores."""
    mine, theirs = ctx.Semaphore(0), ctx.Semaphore(0)
    child = ctx.Process(target=ping_pong, args=(theirs, mine, 200))
    child.start()
    for _ in range(200):
        theirs.release()
        assert mine.acquire(timeout=30)
    child.join()
    assert (child.exitcode, mine.get_value(), theirs.get_value()) == (0, 0, 0)


def test_units_of_a_killed_process_stay_taken(ctx):
    """A semaphore has no owners, so nothing is given back for the dead."""
    semaphore = ctx.Semaphore(2)
    child = ctx.Process(target=take_and_die, args=(semaphore,))
    child.start()
    child.join()
    assert (child.exitcode, semaphore.get_value()) == (-signal.SIGKILL, 1)


def test_repr_shows_the_value():
    """`repr` shows the value and the bound."""
    assert repr(procession.Semaphore(3)) == "<Semaphore(value=3)>"
    assert repr(procession.BoundedSemaphore(3)) == "<BoundedSemaphore(value=3, maxvalue=3)>"


@pytest.mark.parametrize("value", [-1, 2**31, 2**40])
def test_an_impossible_value_is_refused(value):
    """The first value must fit a POSIX semaphore."""
    with pytest.raises(OSError, match="initial value"):
        procession.Semaphore(value)


def test_pickling_outside_a_start_is_refused():
    """A semaphore is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.BoundedSemaphore())
