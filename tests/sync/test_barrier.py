"""A `Barrier` between processes."""

import os
import signal
import threading
import time

import pytest

import procession


def pass_often(barrier, places, rounds):
    for _ in range(rounds):
        places.put(barrier.wait())


def wait_and_report(barrier, broken):
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        broken.release()


class Counter:
    """Counts its calls in shared memory."""

    def __init__(self, total):
        self.total = total

    def __call__(self):
        self.total.value += 1


def until_waiting(barrier, count):
    while barrier.n_waiting < count:
        os.sched_yield()


def test_parties_pass_together_again_and_again(ctx):
    """Each round gives every party its own index, and runs the action once."""
    total, places = ctx.Value("i", 0), ctx.Queue()
    barrier = ctx.Barrier(3, Counter(total))
    children = [ctx.Process(target=pass_often, args=(barrier, places, 20)) for _ in range(2)]
    for child in children:
        child.start()
    pass_often(barrier, places, 20)
    for child in children:
        child.join()
        assert child.exitcode == 0
    seen = sorted(places.get(timeout=30) for _ in range(60))
    assert seen == [0] * 20 + [1] * 20 + [2] * 20
    assert total.value == 20
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_a_barrier_for_one_never_waits():
    """One party passes at once."""
    barrier = procession.Barrier(1)
    assert [barrier.wait(), barrier.wait()] == [0, 0]


def test_a_timeout_breaks_the_barrier():
    """The party that gives up and everybody after it get BrokenBarrierError."""
    barrier = procession.Barrier(2, timeout=0.01)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(30)
    barrier.reset()
    assert not barrier.broken


@pytest.mark.parametrize("disturb", ["abort", "reset"])
def test_abort_and_reset_turn_away_those_who_wait(ctx, disturb):
    """Waiting parties get BrokenBarrierError; only abort leaves the barrier broken."""
    barrier, broken = ctx.Barrier(3), ctx.Semaphore(0)
    children = [ctx.Process(target=wait_and_report, args=(barrier, broken)) for _ in range(2)]
    for child in children:
        child.start()
    until_waiting(barrier, 2)
    getattr(barrier, disturb)()
    for child in children:
        assert broken.acquire(timeout=30)
        child.join()
    assert barrier.broken is (disturb == "abort")


def test_an_action_that_raises_breaks_the_barrier():
    """The exception comes out of the last party's wait."""
    barrier = procession.Barrier(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert barrier.broken


def test_a_party_that_dies_breaks_the_barrier(ctx):
    """No party waits for a dead one."""
    barrier = ctx.Barrier(3)
    child = ctx.Process(target=barrier.wait)
    child.start()
    until_waiting(barrier, 1)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(30)
    assert barrier.broken


def test_a_signal_does_not_count_a_party_twice():
    """A party that handles a signal while it waits goes on waiting in its place."""
    barrier = procession.Barrier(3)
    helper = threading.Thread(target=barrier.wait)
    late = threading.Thread(target=barrier.wait)

    def handler(*_):
        assert barrier.n_waiting == 2
        late.start()

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        helper.start()
        until_waiting(barrier, 1)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert barrier.wait(30) == 1
    finally:
        signal.signal(signal.SIGALRM, previous)
    helper.join()
    late.join()
    assert (barrier.n_waiting, barrier.broken) == (0, False)


def test_a_barrier_is_one_of_threadings():
    """`isinstance` with threading.Barrier holds, as in the stdlib."""
    assert isinstance(procession.Barrier(2), threading.Barrier)


@pytest.mark.parametrize("parties", [0, -1])
def test_a_barrier_needs_parties(parties):
    """The number of parties is positive."""
    with pytest.raises(ValueError, match="parties must be"):
        procession.Barrier(parties)


def test_a_party_whose_time_is_over_passes_a_barrier_that_opens_all_the_same(unswitched):
    """Either all pass or nobody does, also when one wakes up by its timeout as the last one comes."""
    for _ in range(20):
        barrier, outcome = procession.Barrier(2), []

        def party(barrier=barrier, outcome=outcome):
            try:
                outcome.append(barrier.wait(0.02))
            except threading.BrokenBarrierError:
                outcome.append("broken")

        thread = threading.Thread(target=party)
        thread.start()
        # Its time may be over before it is seen to wait.
        while thread.is_alive() and not barrier.n_waiting:
            time.sleep(0.0001)
        over = time.monotonic() + 0.04
        while time.monotonic() < over:
            pass
        party()
        thread.join()
        assert set(outcome) in ({0, 1}, {"broken"})
