"""An `Event` between processes."""

import re
import signal
import threading

import procession


def answer(asked, answered):
    asked.wait()
    answered.set()


def test_an_event_is_set_and_cleared():
    """The flag starts unset, and setting or clearing twice changes nothing."""
    event = procession.Event()
    assert event.is_set() is False
    for _ in range(2):
        event.set()
        assert event.is_set() is True
    assert event.wait() is True
    assert event.wait(0) is True
    for _ in range(2):
        event.clear()
        assert event.is_set() is False


def test_waiting_for_an_unset_event_times_out():
    """`wait` says False when the timeout passed first."""
    event = procession.Event()
    assert event.wait(0) is False
    assert event.wait(-1) is False
    assert event.wait(0.01) is False


def test_setting_wakes_processes(ctx):
    """A process that waits is woken, and its answer wakes the parent."""
    asked, answered = ctx.Event(), ctx.Event()
    children = [ctx.Process(target=answer, args=(asked, answered)) for _ in range(2)]
    for child in children:
        child.start()
    asked.set()
    assert answered.wait(30) is True
    for child in children:
        child.join()
        assert child.exitcode == 0


def test_repr_shows_the_flag():
    """`repr` says whether the event is set."""
    event = procession.Event()
    assert re.fullmatch(r"<Event at 0x[0-9a-f]+ unset>", repr(event))
    event.set()
    assert re.fullmatch(r"<Event at 0x[0-9a-f]+ set>", repr(event))


def test_one_that_a_handler_sets_and_clears_lets_its_waiter_go():
    """`wait` returns True although the handler has cleared the event again."""
    event, over = procession.Event(), threading.Event()

    def handler(*_):
        event.set()
        event.clear()

    def interrupt():
        # The first may come before the wait begins.
        while not over.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        assert event.wait(20) is True
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, previous)
