"""A `Lock` between processes."""

import gc
import inspect
import os
import pickle
import signal
import threading
import weakref

import pytest

import procession
from procession import synchronize


def run(ctx, target, *args):
    """Run a function in a process of its own and return its exit code."""
    child = ctx.Process(target=target, args=args)
    child.start()
    child.join()
    return child.exitcode


def release(lock):
    lock.release()


def add_many(lock, total, times):
    for _ in range(times):
        with lock:
            total.value = total.value + 1


def exit_holding(lock):
    lock.acquire()


def die_holding(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def hold_until(lock, held, done):
    with lock:
        held.set()
        done.wait()


def test_a_held_lock_is_refused_until_it_is_released():
    """A lock can be acquired once and again after its release."""
    lock = procession.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(block=0) is False
    assert lock.release() is None
    assert lock.acquire(True, None) is True


def test_with_holds_the_lock_inside():
    """`with lock:` acquires and releases, also when the body raises."""
    lock = procession.Lock()
    with lock as entered:
        assert entered is True
        assert lock.locked()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not lock.locked()


def test_with_is_native():
    """`with lock:` runs no Python code."""
    assert "__enter__" not in vars(synchronize.Lock)
    assert not hasattr(synchronize.Lock.__enter__, "__code__")
    assert not hasattr(synchronize.RLock.__exit__, "__code__")


@pytest.mark.parametrize("make", [procession.Lock, procession.RLock, procession.Semaphore])
def test_what_is_free_is_taken_whatever_way_it_is_asked_for(make):
    """The fast path of a call without arguments and the ordinary path do the same."""
    lock = make()
    for acquired in (
        lambda: lock.acquire(),
        lambda: lock.acquire(True),
        lambda: lock.acquire(block=False),
        lambda: lock.acquire(False, None),
        lambda: lock.acquire(block=True, timeout=5),
        lambda: lock.__enter__(),
        lambda: type(lock).acquire(lock),
    ):
        assert acquired() is True
        assert lock.locked()
        assert lock.release() is None
        assert not lock.locked()


# A try that does not wait, in the ways there are to ask for one.
TRIES = {
    "False": lambda lock: lock.acquire(False),
    "block=False": lambda lock: lock.acquire(block=False),
    "0": lambda lock: lock.acquire(0),
    "block=None": lambda lock: lock.acquire(block=None),
    "False, None": lambda lock: lock.acquire(False, None),
    "False, 5": lambda lock: lock.acquire(False, 5),
    "block=False, timeout=5": lambda lock: lock.acquire(block=False, timeout=5),
    "True, 0": lambda lock: lock.acquire(True, 0),
    "timeout=0": lambda lock: lock.acquire(timeout=0),
    "by the class": lambda lock: type(lock).acquire(lock, False),
}


@pytest.mark.parametrize("way", TRIES)
@pytest.mark.parametrize("make", [procession.Lock, procession.RLock, procession.Semaphore])
def test_a_try_says_at_once_what_is_not_to_be_had(make, way):
    """It is false while another thread has the lock, and true when that has let go."""
    lock, told = make(), []
    lock.acquire()
    thread = threading.Thread(target=lambda: told.append(TRIES[way](lock)))
    thread.start()
    thread.join()
    assert told == [False]
    lock.release()
    assert TRIES[way](lock) is True


@pytest.mark.parametrize("make", [procession.Lock, procession.RLock, procession.Semaphore])
def test_wrong_arguments_are_named(make):
    """The error is about the method that was called."""
    lock = make()
    with pytest.raises(TypeError, match=r"acquire\(\) got an unexpected keyword argument 'bloc'"):
        lock.acquire(bloc=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'bloc'"):
        lock.acquire(bloc=False)
    with pytest.raises(TypeError, match="release"):
        lock.release(1)
    with pytest.raises(TypeError):
        type(lock).acquire(3)
    assert not lock.locked()
    assert next(iter(inspect.signature(lock.acquire).parameters.values())).default is True


def test_a_timeout_that_passes_gives_false():
    """Timeouts of zero, of less and of a little all end in False."""
    lock = procession.Lock()
    lock.acquire()
    assert lock.acquire(True, 0) is False
    assert lock.acquire(timeout=-5) is False
    assert lock.acquire(timeout=0.01) is False


def test_releasing_a_free_lock_is_a_value_error():
    """Releasing more often than acquiring raises what the stdlib raises."""
    with pytest.raises(ValueError, match="^semaphore or lock released too many times$"):
        procession.Lock().release()


def test_any_thread_and_any_process_may_release(ctx):
    """A lock has no owner: a child may release what its parent acquired."""
    lock = ctx.Lock()
    lock.acquire()
    assert run(ctx, release, lock) == 0
    assert lock.acquire(False)
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(False)


def test_two_processes_never_hold_it_together(ctx):
    """Increments under the lock are never lost."""
    lock, total = ctx.Lock(), ctx.RawValue("i", 0)
    children = [ctx.Process(target=add_many, args=(lock, total, 2000)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert total.value == 4000


def test_a_lock_made_under_one_start_method_works_under_another():
    """A lock of a fork context may be given to a spawned process."""
    lock = procession.get_context("fork").Lock()
    lock.acquire()
    assert run(procession.get_context("spawn"), release, lock) == 0
    assert not lock.locked()


def test_repr_names_the_owner():
    """`repr` tells this thread, another thread, another process and nobody apart."""
    lock = procession.Lock()
    assert repr(lock) == "<Lock(owner=None)>"
    with lock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(repr(lock)))
        thread.start()
        thread.join()
        assert seen == ["<Lock(owner=SomeOtherThread)>"]
    seen = []

    def look():
        with lock:
            seen.append(repr(lock))

    thread = threading.Thread(target=look, name="worker-1")
    thread.start()
    thread.join()
    assert seen == ["<Lock(owner=MainProcess|worker-1)>"]


def test_repr_names_another_process(ctx):
    """`repr` says so when another process holds the lock."""
    lock, held, done = ctx.Lock(), ctx.Event(), ctx.Event()
    child = ctx.Process(target=hold_until, args=(lock, held, done))
    child.start()
    held.wait()
    assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
    done.set()
    child.join()


def test_a_holder_that_exits_leaves_the_lock_held(ctx):
    """A regular exit releases nothing, as in the stdlib."""
    lock = ctx.Lock()
    assert run(ctx, exit_holding, lock) == 0
    assert lock.acquire(False) is False
    lock.release()
    assert lock.acquire(False) is True


def test_a_killed_holder_is_reported_once(ctx):
    """The next acquirer gets OwnerDied, and the lock is free after that."""
    lock = ctx.Lock()
    assert run(ctx, die_holding, lock) == -signal.SIGKILL
    with pytest.raises(procession.OwnerDied):
        lock.acquire()
    assert lock.acquire(False) is True


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_try_tells_of_a_killed_holder_as_well(ctx, kind):
    """A try-acquire of a dead process's lock does not fail: each way to try raises OwnerDied, once."""
    for way, tried in TRIES.items():
        lock = getattr(ctx, kind)()
        assert run(ctx, die_holding, lock) == -signal.SIGKILL
        with pytest.raises(procession.OwnerDied):
            tried(lock)
        assert tried(lock) is True, way


def test_a_lock_of_a_killed_holder_may_be_released(ctx):
    """Any release stays legal after the holder's death."""
    lock = ctx.Lock()
    run(ctx, die_holding, lock)
    lock.release()
    assert lock.acquire(False) is True


def test_a_killed_holders_lock_can_be_held_for_repair(ctx):
    """`on_owner_died="hold"` returns holding the lock."""
    lock = ctx.Lock()
    run(ctx, die_holding, lock)
    assert lock.acquire(on_owner_died="hold") is True
    assert lock.locked()
    lock.release()


def test_an_unknown_policy_is_refused():
    """`on_owner_died` takes two words."""
    with pytest.raises(ValueError, match="'raise' or 'hold'"):
        procession.Lock().acquire(on_owner_died="shrug")


def test_a_signal_handler_interrupts_a_blocked_acquire():
    """An exception of a signal handler comes out of `acquire`."""

    def handler(*_):
        raise InterruptedError("enough")

    lock = procession.Lock()
    lock.acquire()
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError, match="enough"):
            lock.acquire()
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_pickling_outside_a_start_is_refused():
    """A lock is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.Lock())


def test_subclasses_may_have_any_constructor():
    """The constructor of a subclass is its own affair."""

    class Named(synchronize.Lock):
        def __init__(self, name, *, colour="red"):
            self.name = name
            self.colour = colour
            super().__init__(ctx=None)

    lock = Named("door", colour="green")
    with lock:
        assert (lock.name, lock.colour, lock.locked()) == ("door", "green", True)


def test_a_lock_without_its_constructor_says_so():
    """Using an object whose `__init__` did not run is a clear error."""
    with pytest.raises(RuntimeError, match="super\\(\\).__init__"):
        synchronize.Lock.__new__(synchronize.Lock).acquire()


def test_a_lock_goes_when_nobody_refers_to_it():
    """Locks are weakly referable and take part in garbage collection."""
    lock = synchronize.Lock(ctx=None)
    lock.me = lock
    ghost = weakref.ref(lock)
    del lock
    gc.collect()
    assert ghost() is None
