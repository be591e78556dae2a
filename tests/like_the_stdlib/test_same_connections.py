"""Pipes and sockets beside the standard library's: the same calls have the same outcomes."""

import array
import ctypes
import itertools
import multiprocessing
import multiprocessing.connection
import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import procession
from procession import connection
from tests.support.connection_steps import (
    BUFFERS,
    INTO,
    STEPS,
    ConnectedPair,
    poll,
    receive_bytes,
    receive_into,
    send_bytes,
    sockets,
    state,
)
from tests.support.side_by_side import assert_alike, assert_programs_alike, attempt, bounded, outcome
from tests.support.wire_values import patient, plain

thorough = settings(patient, max_examples=250)


def pipes(duplex):
    """A pipe of each side."""
    return ConnectedPair(procession.Pipe(duplex)), ConnectedPair(multiprocessing.Pipe(duplex))


ends = st.integers(0, 1)
small = st.integers(-2, 14)
timeouts = st.sampled_from([(), (0,), (0.0,), (-1,), (-0.5,), (False,), (None,), (0.001,), (-(2**40),)])
bystanders = st.tuples(st.just("poll"), ends, timeouts).map(lambda step: (*step[:2], *step[2])) | st.tuples(
    st.sampled_from(["state", "fileno"]), ends
)
closing = st.tuples(st.sampled_from(["close", "leave a block"]), ends)
# Small enough that a whole program of them fits into the stdlib's pipe, so that its `send` never waits.
objects = plain | st.sampled_from([lambda: None, int, 1j, "\ud800", len, {"a": [1j]}])
talking = st.tuples(st.just("send"), ends, objects) | st.tuples(st.just("receive"), ends) | bystanders
messages = st.binary(max_size=8)
parts = (
    st.just(())
    | st.tuples(small)
    | st.tuples(small, st.none() | small | st.booleans() | st.sampled_from(["1", 2**70, 1.0]))
    | st.sampled_from([("1",), (2**70,), (True,)])
)
bytes_talking = (
    st.tuples(st.just("send bytes"), ends, st.sampled_from(sorted(BUFFERS)), messages, parts).map(
        lambda step: (*step[:4], *step[4])
    )
    | st.tuples(st.just("receive bytes"), ends)
    | st.tuples(st.just("receive bytes"), ends, st.none() | small | st.booleans() | st.just(2**40))
    | st.tuples(st.just("receive into"), ends, st.sampled_from(sorted(INTO)), st.integers(0, 20))
    | st.tuples(st.just("receive into"), ends, st.sampled_from(sorted(INTO)), st.integers(0, 20), small)
    | bystanders
)


def programs(*steps, size=12):
    return st.lists(st.one_of(*steps), max_size=size)


def call_the_stdlibs_reset_an_end(steps):
    """The steps, with a connection reset reported as the end of the stream."""

    def told(step):
        def go(*args):
            try:
                return step(*args)
            except ConnectionResetError:
                raise EOFError from None

        return go

    return {name: told(step) if name.startswith("receive") else step for name, step in steps.items()}


PIPE_STEPS = call_the_stdlibs_reset_an_end(STEPS)


@thorough
@given(st.booleans(), programs(talking, closing))
@example(True, [("send", 0, ["x" * 20_000, b"x" * 20_000]), ("receive", 1), ("close", 0), ("receive", 1)])
def test_objects_through_a_pipe(duplex, program):
    """Objects pass through both kinds of pipe alike, in both directions, before and after closing."""
    ours, theirs = pipes(duplex)
    with ours, theirs:
        assert_programs_alike(program, PIPE_STEPS, ours, theirs)


LIMITS = [
    ("send bytes", 0, "bytes", b"12345"), ("receive bytes", 1, 3), ("state", 1), ("fileno", 1),
    ("send bytes", 1, "bytes", b"1"), ("poll", 1), ("receive bytes", 0),
]  # fmt: skip
LIMITS_OF_A_READER = [
    ("send bytes", 1, "bytes", b"12345"), ("receive bytes", 0, 3), ("state", 0), ("poll", 0), ("fileno", 0),
    ("send bytes", 1, "bytes", b"1"),
]  # fmt: skip
ENDS = [
    ("send bytes", 0, "bytes", b"left"), ("close", 0), ("receive bytes", 1), ("receive bytes", 1),
    ("poll", 1, None), ("send bytes", 1, "bytes", b""),
]  # fmt: skip


@thorough
@given(st.booleans(), programs(bytes_talking, closing))
@example(True, LIMITS)
@example(False, LIMITS_OF_A_READER)
@example(True, ENDS)
@example(True, [("send bytes", 0, "bytes", b"x" * 20_000), ("receive bytes", 1, 20_000)])
@example(True, [("send bytes", 0, "ints", b"123"), ("receive into", 1, "ints", 20, 4), ("poll", 1)])
@example(True, [("send bytes", 0, "bytes", b"123"), ("receive into", 1, "bytearray", 2), ("poll", 1)])
def test_bytes_through_a_pipe(duplex, program):
    """Bytes, parts of buffers, limits and buffers to fill are taken and refused alike."""
    ours, theirs = pipes(duplex)
    with ours, theirs:
        assert_programs_alike(program, PIPE_STEPS, ours, theirs)


pairings = pytest.mark.parametrize(
    ("listening", "calling"),
    [
        (connection, connection),
        (connection, multiprocessing.connection),
        (multiprocessing.connection, connection),
    ],
    ids=["ours with ours", "ours called by theirs", "theirs called by ours"],
)


@pairings
def test_through_a_unix_socket(listening, calling):
    """A `Listener` and a `Client` of either side talk over AF_UNIX as two of the stdlib's do."""

    @settings(patient, max_examples=60)
    @given(programs(talking, closing) | programs(bytes_talking, closing))
    def talk(program):
        theirs = sockets("AF_UNIX", multiprocessing.connection, multiprocessing.connection)
        with sockets("AF_UNIX", listening, calling) as ours, theirs:
            assert_programs_alike(program, STEPS, ours, theirs)

    talk()


@pairings
def test_through_a_network_socket(listening, calling):
    """A `Listener` and a `Client` of either side talk over AF_INET as two of the stdlib's do."""

    @settings(patient, max_examples=40)
    @given(programs(talking))
    def talk(program):
        theirs = sockets("AF_INET", multiprocessing.connection, multiprocessing.connection)
        with sockets("AF_INET", listening, calling) as ours, theirs:
            assert_programs_alike(program, STEPS, ours, theirs)

    talk()


SIDES = (connection, multiprocessing.connection)
KINDS = {
    "duplex": lambda side: ConnectedPair(side.Pipe()),
    "simplex": lambda side: ConnectedPair(side.Pipe(duplex=False)),
    "a socket": lambda side: sockets("AF_UNIX", side, side),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@kinds
@pytest.mark.parametrize("kind", sorted(BUFFERS))
def test_every_part_of_a_buffer(make, kind):
    """`send_bytes` sends the same part for every offset and size, or refuses it the same way."""
    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        for offset, size in itertools.product(range(-2, 8), [None, *range(-2, 8)]):
            assert_alike(send_bytes, ours, theirs, 1, kind, b"abc", offset, size)
            assert_alike(receive_bytes, ours, theirs, 0)


@kinds
def test_every_limit(make):
    """`maxlength` lets a message through or ends the reading, and what is left is the same."""
    for limit, length in itertools.product(range(-1, 4), range(4)):
        with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
            for pair in (ours, theirs):
                pair.ends[1].send_bytes(b"abc"[:length])
            assert_alike(receive_bytes, ours, theirs, 0, limit)
            for step in (receive_bytes, poll, state):
                assert_alike(step, ours, theirs, 0)
            assert_alike(send_bytes, ours, theirs, 0, "bytes", b"x")


@kinds
@pytest.mark.parametrize("kind", sorted(INTO))
def test_every_place_for_a_message(make, kind):
    """`recv_bytes_into` stores, refuses and tells the same for every size and offset."""
    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        for size, offset, length in itertools.product((0, 4, 8), range(-1, 10), (0, 3, 4)):
            for pair in (ours, theirs):
                pair.ends[1].send_bytes(b"abcd"[:length])
            assert_alike(receive_into, ours, theirs, 0, kind, size, offset)
            assert_alike(receive_bytes, ours, theirs, 0)


@kinds
def test_a_closed_end_still_says_what_it_was(make):
    """`readable` and `writable` do not change when an end is closed."""
    for number in (0, 1):
        with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
            for pair in (ours, theirs):
                pair.ends[number].close()
            assert_alike(state, ours, theirs, number)


MISUSES = [
    lambda end: end.send_bytes("no bytes"),
    lambda end: end.send_bytes(b"abc", -1),
    lambda end: end.send_bytes(b"abc", 0, 4),
    lambda end: end.recv_bytes(-1),
    lambda end: end.recv_bytes_into("no buffer"),
    lambda end: end.recv_bytes_into(bytearray(3), -1),
    lambda end: end.send(lambda: None),
]


@kinds
@pytest.mark.parametrize("misuse", MISUSES)
@pytest.mark.parametrize("closed", [True, False])
def test_whether_the_end_may_be_used_is_looked_at_first(make, misuse, closed):
    """A closed end, or one of the other direction, says so before it complains about arguments."""
    for number in (0, 1):
        with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
            for pair in (ours, theirs):
                pair.ends[1 - number].send_bytes(b"ready") if pair.ends[1 - number].writable else None
                if closed:
                    pair.ends[number].close()
            assert_alike(lambda pair, it=number: misuse(pair.ends[it]), ours, theirs)


@kinds
def test_a_broken_pipe_stays_broken(make):
    """Every `send` to a closed end raises, not only the first."""

    def insist(pair):
        pair.ends[0].close()
        sends = [outcome(pair.ends[1].send, "lost") for _ in range(4)]
        return sends + [outcome(pair.ends[1].send_bytes, b"lost") for _ in range(4)]

    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        assert_alike(insist, ours, theirs)


BAD_PLACES = [("no buffer",), (bytearray(9), 10), (bytearray(9), -1), (bytearray(9), "1")]


@kinds
@pytest.mark.parametrize("place", BAD_PLACES, ids=repr)
def test_a_message_stays_when_there_is_no_place_for_it(make, place):
    """`recv_bytes_into` looks at buffer and offset first: the message can be received afterwards."""

    def receive_twice(pair):
        pair.ends[1].send_bytes(b"kept")
        with pytest.raises((TypeError, ValueError)) as caught:
            pair.ends[0].recv_bytes_into(*place)
        return caught.type, pair.ends[0].recv_bytes() if pair.ends[0].poll() else "lost"

    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        assert_alike(receive_twice, ours, theirs)


@kinds
@pytest.mark.parametrize("place", BAD_PLACES[::2], ids=("a wrong buffer", "a wrong offset"))
def test_a_wrong_place_does_not_wait_for_a_message(make, place):
    """`recv_bytes_into` with a wrong buffer or offset raises at once, also when nothing was sent."""
    with make(SIDES[0]) as pair, bounded(5), pytest.raises((TypeError, ValueError)):
        pair.ends[0].recv_bytes_into(*place)


@kinds
@pytest.mark.parametrize("offset", [None, 0.0, "", [], 1.0])
def test_an_offset_is_a_number(make, offset):
    """A non-integer is refused as an offset, even if it is false."""
    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        for buffer in (b"abc", bytearray(b"abc")):
            assert_alike(lambda pair, it=buffer: pair.ends[1].send_bytes(it, offset), ours, theirs)


@kinds
@pytest.mark.parametrize("limit", [2**70, 2**64, -(2**70)])
def test_a_limit_may_be_any_number(make, limit):
    """`maxlength` has no limits of its own."""

    def limited(pair):
        pair.ends[1].send_bytes(b"abc")
        return pair.ends[0].recv_bytes(limit)

    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        assert_alike(limited, ours, theirs)


@kinds
@pytest.mark.parametrize("timeout", ["1", [], 1j, b"1"])
def test_a_timeout_is_a_number(make, timeout):
    """`poll` refuses a timeout that is not a number, whether there is a message or not."""
    with make(SIDES[0]) as ours, make(SIDES[1]) as theirs:
        assert_alike(poll, ours, theirs, 0, timeout)
        for pair in (ours, theirs):
            pair.ends[1].send_bytes(b"")
        assert_alike(poll, ours, theirs, 0, timeout)


def test_a_pickle_sent_as_bytes_is_an_object():
    """`recv` reads a message that was pickled once and sent with `send_bytes`."""

    def send_pickled(package):
        reader, writer = package.Pipe(duplex=False)
        with reader, writer:
            writer.send_bytes(multiprocessing.reduction.ForkingPickler.dumps({"a": [1, None]}))
            return reader.recv()

    assert_alike(send_pickled, procession, multiprocessing)


LISTENING = [
    lambda side: side.Listener(family="AF_NONE"),
    lambda side: side.Listener(5),
    lambda side: side.Client(("127.0.0.1", 0)),
    lambda side: side.Client("/no/such/path"),
    lambda side: side.Client(5),
    lambda side: side.Client("\0nobody", family="AF_INET"),
]


@pytest.mark.parametrize("call", LISTENING)
def test_addresses_and_keys(call):
    """Impossible addresses, families and keys raise the same exceptions."""
    assert_alike(call, *SIDES)


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_a_listener(family):
    """A listener is closed twice and refuses to accept afterwards, as the stdlib's."""

    def life(side):
        with side.Listener(family=family) as listener:
            with side.Client(listener.address) as caller, listener.accept() as conn:
                caller.send("hello")
                heard, last = conn.recv(), type(listener.last_accepted)
        listener.close()
        return heard, last, outcome(listener.accept), outcome(side.Client, listener.address)

    assert_alike(life, *SIDES)


def test_the_end_is_no_reset():
    """An end closed with messages unread is an `EOFError` at the other end; the stdlib's is a reset."""
    ours, theirs = pipes(duplex=True)
    with ours, theirs:
        for pair, told in ((ours, EOFError), (theirs, ConnectionResetError)):
            first, second = pair.ends
            second.send("unread")
            first.send("to be read")
            first.close()
            assert second.recv() == "to be read"
            assert [attempt(second.recv)[0] for _ in range(2)] == [("raises", told), ("raises", EOFError)]


def test_messages_of_objects_are_no_pickles():
    """What `send` sent is read by `recv`, not by pickle: plain values have a format of their own."""
    for package, failure in ((procession, pickle.UnpicklingError), (multiprocessing, None)):
        reader, writer = package.Pipe(duplex=False)
        with reader, writer:
            writer.send({"a": 1})
            if failure is None:
                assert pickle.loads(reader.recv_bytes()) == {"a": 1}
            else:
                with pytest.raises(failure):
                    pickle.loads(reader.recv_bytes())


def test_buffers_that_the_stdlib_fills_or_sends_in_part():
    """A message is stored to its last byte, and buffers of any shape are whole messages."""
    a, b = procession.Pipe()
    with a, b:
        a.send_bytes(b"hello")
        into = array.array("i", [0, 0])
        assert (b.recv_bytes_into(into), into.tobytes()) == (5, b"hello\0\0\0")
        a.send_bytes(b"hello")
        assert (b.recv_bytes_into(into, 3), into.tobytes()) == (5, b"helhello")
        table = memoryview(b"abcdef").cast("B", (2, 3))
        a.send_bytes(table)
        a.send_bytes(memoryview(b"abcdef")[::2])
        a.send_bytes(ctypes.c_byte(65))
        assert [b.recv_bytes() for _ in range(3)] == [b"abcdef", b"ace", b"A"]
