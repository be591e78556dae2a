"""A `Condition` between processes."""

import os
import pickle
import signal
import threading
import time

import pytest

import procession


def sleep_once(cond, asleep, woken, timeout=None):
    with cond:
        asleep.release()
        cond.wait(timeout)
    woken.release()


def sleepers(ctx, cond, count):
    """Start processes that sleep in the condition; return them and the semaphore each raises when woken."""
    asleep, woken = ctx.Semaphore(0), ctx.Semaphore(0)
    children = [ctx.Process(target=sleep_once, args=(cond, asleep, woken)) for _ in range(count)]
    for child in children:
        child.start()
    for _ in children:
        assert asleep.acquire(timeout=30)
    return children, woken


def follow(cond, state):
    with cond:
        state.value = 0
        cond.notify()
        assert cond.wait_for(lambda: state.value == 4, timeout=30)


def notify_and_interrupt(cond, pid):
    with cond:
        cond.notify()
    while True:
        with cond:
            if cond._waiters.count():
                os.kill(pid, signal.SIGUSR1)
                return


def die_while_the_parent_waits(cond):
    cond.acquire()
    cond.notify()
    os.kill(os.getpid(), signal.SIGKILL)


def test_notify_wakes_as_many_as_it_is_told(ctx):
    """`notify` wakes one, `notify(n)` n, and `notify_all` the rest."""
    cond = ctx.Condition()
    children, woken = sleepers(ctx, cond, 4)
    with cond:
        cond.notify()
    assert woken.acquire(timeout=30)
    with cond:
        assert cond._waiters.count() == 3
        cond.notify(n=2)
    for _ in range(2):
        assert woken.acquire(timeout=30)
    with cond:
        cond.notify_all()
    assert woken.acquire(timeout=30)
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert repr(cond) == "<Condition(<RLock(None, 0)>, 0)>"


def test_a_notification_before_the_wait_is_not_kept():
    """A notification without waiters has no effect."""
    cond = procession.Condition()
    with cond:
        cond.notify_all()
        assert cond.wait(0) is False
        assert cond.wait(-1) is False
        assert cond.wait(0.01) is False
    assert cond._waiters.count() == 0


def test_wait_gives_back_the_lock_as_often_as_it_was_held():
    """A lock that was acquired three times is free during the wait and held three times after it."""
    cond = procession.Condition()
    held_inside = []

    def notifier():
        with cond:
            held_inside.append(True)
            cond.notify()

    thread = threading.Thread(target=notifier)
    with cond, cond, cond:
        thread.start()
        assert cond.wait(30) is True
        assert cond._lock._count() == 3
    thread.join()
    assert held_inside and not cond._lock.locked()


def test_wait_for_waits_until_the_predicate_is_true(ctx):
    """`wait_for` sees a change that another process makes."""
    cond, state = ctx.Condition(), ctx.Value("i", -1)
    child = ctx.Process(target=follow, args=(cond, state))
    child.start()
    with cond:
        assert cond.wait_for(lambda: state.value == 0, timeout=30)
    for _ in range(4):
        with cond:
            state.value += 1
            cond.notify()
    child.join()
    assert child.exitcode == 0


def test_wait_for_gives_up_with_what_the_predicate_said():
    """After the timeout the predicate's last answer is returned."""
    cond = procession.Condition()
    with cond:
        assert cond.wait_for(list, timeout=0.01) == []
        assert cond.wait_for(lambda: "yes", timeout=0) == "yes"


def test_waiting_and_notifying_need_the_lock():
    """Using a condition without its lock is an AssertionError."""
    cond = procession.Condition()
    with pytest.raises(AssertionError, match="must acquire"):
        cond.wait(0)
    with pytest.raises(AssertionError, match="not owned"):
        cond.notify()


@pytest.mark.parametrize("make", [procession.Lock, procession.RLock, threading.Lock, threading.RLock])
def test_any_lock_will_do(make):
    """A condition works around our locks and around those of threading."""
    cond = procession.Condition(make())
    woken = []

    def waiter():
        with cond:
            woken.append(cond.wait(30))

    thread = threading.Thread(target=waiter)
    thread.start()
    while not cond._waiters.count():
        os.sched_yield()
    with cond:
        cond.notify()
    thread.join()
    assert woken == [True]
    with cond:
        assert cond.wait(0) is False


def test_a_signal_handler_interrupts_a_wait_that_then_holds_the_lock(ctx):
    """An exception of a signal handler comes out of `wait`, with the lock held again."""

    def handler(*_):
        raise InterruptedError("enough")

    cond = ctx.Condition()
    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with cond:
            child = ctx.Process(target=notify_and_interrupt, args=(cond, os.getpid()))
            child.start()
            assert cond.wait(30) is True
            with pytest.raises(InterruptedError, match="enough"):
                cond.wait(30)
            assert cond._lock._is_mine()
        child.join()
        assert child.exitcode == 0
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_notifier_that_dies_with_the_lock_is_reported_and_the_lock_held(ctx):
    """`wait` raises OwnerDied and still returns holding the lock."""
    cond = ctx.Condition()
    with cond:
        child = ctx.Process(target=die_while_the_parent_waits, args=(cond,))
        child.start()
        with pytest.raises(procession.OwnerDied):
            cond.wait(30)
        assert cond._lock._is_mine()
    child.join()
    assert not cond._lock.locked()


def test_pickling_outside_a_start_is_refused():
    """A condition is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.Condition())


def test_thousands_of_threads_that_are_notified_together_go_on():
    """Each takes the lock in its turn."""
    count = 4300
    cond, woken, done = procession.Condition(), [], threading.Event()

    def wait():
        with cond:
            cond.wait()
            woken.append(1)
            if len(woken) == count:
                done.set()

    former = threading.stack_size(64 * 1024)
    try:
        threads = [threading.Thread(target=wait) for _ in range(count)]
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(former)
    while cond._sleeping_count.get_value() < count:
        time.sleep(0.01)
    with cond:
        cond.notify_all()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert done.is_set()


@pytest.mark.parametrize("make", [procession.Lock, procession.RLock])
def test_those_that_came_first_are_notified_first(make):
    """`notify` wakes as many as asked for, even if others give up meanwhile."""
    cond, woken = procession.Condition(make()), []

    def wait(number):
        with cond:
            assert cond.wait(120)
            woken.append(number)

    def give_up():
        with cond:
            assert not cond.wait(0.01)

    threads = []
    for number in range(40):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while cond._sleeping_count.get_value() < number + 1:
            time.sleep(0.001)
        give_up()
    with cond:
        cond.notify(15)
    for thread in threads[:15]:
        thread.join(60)
    assert sorted(woken) == list(range(15))
    assert cond._sleeping_count.get_value() == 25
    with cond:
        cond.notify_all()
    for thread in threads:
        thread.join(60)
    assert sorted(woken) == list(range(40))


def test_one_of_a_crowd_that_is_killed_before_its_turn_holds_up_nobody():
    """The others are told of its death."""
    context = procession.get_context("fork")
    cond = context.Condition()
    children, woken = sleepers(context, cond, 6)
    with cond:
        cond.notify_all()
        for child in children[:3]:
            child.kill()
            child.join()
    for _ in children[3:]:
        assert woken.acquire(timeout=60)
    for child in children[3:]:
        child.join(60)


class OwnLock(type(procession.RLock())):
    """A lock whose `acquire` and `release` may be anything."""


class NeverAgain:
    """A lock of another kind, which can be acquired only once."""

    def __init__(self):
        self._lock = threading.Lock()

    def __enter__(self):
        return self._lock.acquire()

    def __exit__(self, *_):
        pass

    def acquire(self, *args):
        return self._lock.acquire(*args)

    def release(self):
        pass


def wait_until_a_second_interrupt(cond, asleep):
    """Exit with the number of interrupts it took; the last one tells of the first."""
    interrupts = []

    def handler(*_):
        interrupts.append(KeyboardInterrupt())
        raise interrupts[-1]

    signal.signal(signal.SIGINT, handler)
    cond.__enter__()
    asleep.release()
    try:
        cond.wait()
    except KeyboardInterrupt as last:
        assert last is interrupts[-1] and last.__context__ is interrupts[0]
        os._exit(len(interrupts))


@pytest.mark.parametrize("make", [procession.Lock, procession.RLock, OwnLock, NeverAgain])
def test_a_second_interrupt_ends_a_wait_whose_lock_never_comes_back(make):
    """`wait` returns with the lock: the first interrupt waits for it, and the second one ends that."""
    context = procession.get_context("fork")
    cond, asleep = context.Condition(make()), context.Semaphore(0)
    child = context.Process(target=wait_until_a_second_interrupt, args=(cond, asleep))
    child.start()
    assert asleep.acquire(timeout=60)
    while not cond._waiters.count():
        time.sleep(0.001)
    if make is not NeverAgain:
        cond.acquire()
    for _ in range(50):
        if child.is_alive():
            os.kill(child.pid, signal.SIGINT)
            child.join(0.3)
    child.kill()
    child.join()
    assert child.exitcode == 2


@pytest.mark.parametrize("make", [procession.RLock, threading.RLock])
def test_who_is_notified_when_the_time_is_over_is_told_so(make, unswitched):
    """The waiter wakes up by its timeout, and is notified before it gets back to the interpreter."""
    cond, outcome = procession.Condition(make()), []

    def wait():
        with cond:
            outcome.append(cond.wait(0.02))

    thread = threading.Thread(target=wait)
    thread.start()
    while not cond._waiters.count():
        time.sleep(0.0001)
    over = time.monotonic() + 0.2
    while time.monotonic() < over:
        pass
    with cond:
        notified = cond._waiters.notify(1)
    thread.join()
    assert outcome == [notified == 1]


def test_a_notification_that_an_exception_keeps_from_its_waiter_goes_to_the_next():
    """A notified waiter whose handler raises while it waits for the lock passes the notification on."""
    context = procession.get_context("fork")
    cond, asleep, woken = context.Condition(), context.Semaphore(0), context.Semaphore(0)
    interrupted = context.Process(target=wait_and_be_interrupted, args=(cond, asleep))
    interrupted.start()
    assert asleep.acquire(timeout=60)
    with cond:
        pass
    patient = context.Process(target=sleep_once, args=(cond, asleep, woken))
    patient.start()
    assert asleep.acquire(timeout=60)
    with cond:
        assert cond._waiters.count() == 2
        cond.notify()
        os.kill(interrupted.pid, signal.SIGINT)
        # The lock is held until the signal was handled.
        assert asleep.acquire(timeout=60)
    assert woken.acquire(timeout=60)
    for child in (interrupted, patient):
        child.join(60)
        assert child.exitcode == 0


def wait_and_be_interrupted(cond, asleep):
    def handler(*_):
        asleep.release()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handler)
    with cond:
        asleep.release()
        with pytest.raises(KeyboardInterrupt):
            cond.wait()
        assert cond._lock._is_mine()
