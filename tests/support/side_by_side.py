"""Run the same steps with this package and with the standard library, and compare the outcomes."""

import signal
from contextlib import contextmanager

from tests.support.wire_values import portrait


class Hang(BaseException):
    """A call did not return; a `BaseException`, so that no `except Exception` hides it."""


@contextmanager
def bounded(seconds=20):
    """Raise `Hang` in the block if it takes longer than `seconds`."""

    def give_up(signum, frame):
        raise Hang(f"still not back after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(action, *args):
    """Return the outcome of an action and its result, which is None if it raised."""
    with bounded():
        try:
            result = action(*args)
        except Exception as error:
            return ("raises", type(error)), None
    return ("gives", portrait(result)), result


def outcome(action, *args):
    """What an action returns, with its exact type, or the type of the exception it raises."""
    return attempt(action, *args)[0]


def assert_alike(action, ours, theirs, *args):
    """The action has the same outcome on both sides."""
    mine, its = outcome(action, ours, *args), outcome(action, theirs, *args)
    assert mine == its, f"{mine} here, {its} in the standard library"


def assert_programs_alike(program, steps, ours, theirs):
    """A list of steps, each a name and arguments, has the same outcomes on both sides, step by step."""
    for number, (name, *args) in enumerate(program):
        mine, its = outcome(steps[name], ours, *args), outcome(steps[name], theirs, *args)
        assert mine == its, f"step {number}, {name} {args}: {mine} here, {its} in the standard library"
