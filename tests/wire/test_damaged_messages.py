"""Invalid messages: decoding any bytes ends with a value or with an error."""

import pickle
import tracemalloc

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from procession import _native
from tests.support.wire_values import graphs, patient, plain


def is_pickled(message):
    """Whether pickle decodes it, which trusts its input."""
    return message[:1] == b"P" or (len(message) > 2 and message[0] == 0x80 and 2 <= message[1] <= 5)


def varint(number):
    """A length as a message has it."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def read_or_refuse(message):
    """Decode what may be no message; only one kind of error is allowed."""
    try:
        return _native.loads(message)
    except pickle.UnpicklingError:
        return None


@settings(deadline=None, max_examples=1000)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_value_or_an_error(message):
    """Decoding any bytes returns a value or raises the error."""
    assume(not is_pickled(message))
    read_or_refuse(message)


@settings(deadline=None, max_examples=1000)
@given(
    st.lists(st.sampled_from(b"1248intfdsbyulezmrSBYULEZM\x00\x01\x02\x03\x04\x81"), max_size=60).map(bytes)
)
def test_arbitrary_tags_are_a_value_or_an_error(message):
    """Bytes that look like a message are no more dangerous than others."""
    read_or_refuse(message)


@patient
@given(plain | graphs(), st.data())
def test_damaged_messages_are_a_value_or_an_error(value, data):
    """A message with wrong bytes in it is read as something else, or refused."""
    message = bytearray(_native.dumps(value))
    assume(not is_pickled(message))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    assume(not is_pickled(message))
    read_or_refuse(message)


@patient
@given(plain | graphs(), st.data())
def test_messages_that_are_cut_off_or_continued_are_refused(value, data):
    """A message is complete, and nothing follows it."""
    message = _native.dumps(value)
    assume(not is_pickled(message))
    with pytest.raises(pickle.UnpicklingError):
        _native.loads(message[: data.draw(st.integers(0, len(message) - 1))])
    with pytest.raises(pickle.UnpicklingError):
        _native.loads(message + data.draw(st.binary(min_size=1, max_size=3)))


refused = {
    "nothing at all": b"",
    "an unknown tag": b"?",
    "the upper case of a tag that has none": b"N",
    "a cut off int": b"4\x01\x02",
    "a length without an end": b"s" + b"\x80" * 20,
    "a length beyond the address space": b"s" + b"\xff" * 9 + b"\x7f",
    "a str longer than the message": b"s\x05abc",
    "a str that is not UTF-8": b"s\x02\xff\xfe",
    "a str with a lone surrogate": b"s\x03\xed\xa0\x80",
    "a key that is not UTF-8": b"m\x01s\x02\xff\xfe\x81",
    "a list longer than the message": b"l\xff\xff\xff\xff\x0f\x81",
    "a dict longer than the message": b"m\x02\x81\x81\x81",
    "lists that are together longer than the message": b"l\x04l\x04\x81\x81\x81\x81",
    "a reference to nothing": b"r\x05",
    "a reference to a value that was not to be kept": b"l\x02l\x00r\x02",
    "a reference to what comes later": b"l\x02r\x05L\x00",
    "a tuple within itself": b"U\x01r\x00",
    "a frozenset within itself": b"Z\x01r\x00",
    "a tuple within itself by way of a list": b"U\x01l\x01r\x00",
    "a list as a key": b"m\x01l\x00\x81",
    "a list as a member": b"e\x01l\x00",
    "a list as a member of a frozenset": b"z\x01l\x00",
    "a set within itself": b"E\x01r\x00",
    "a dict as its own key": b"M\x01r\x00\x81",
    "endless lists": b"l\x01" * 100_000,
    "endless tuples": b"u\x01" * 100_000,
    "endless dicts": b"m\x01\x81" * 100_000,
    "two values": b"\x81\x82",
}


@pytest.mark.parametrize("message", refused.values(), ids=refused.keys())
def test_damage_is_reported(message):
    """The error is pickle's own and says where the damage is."""
    with pytest.raises(pickle.UnpicklingError, match="damaged message: .* at byte [0-9]+"):
        _native.loads(message)


def test_chains_of_references_do_not_exhaust_the_stack():
    """A hash that would recurse through thousands of references is never begun."""
    links = 20_000
    message = bytearray(b"l" + varint(links + 1))
    previous = b"\x81"
    for _ in range(links):
        reference = b"r" + varint(len(message))
        message += b"U\x01" + previous
        previous = reference
    message += b"m\x01" + previous + b"\x81"
    with pytest.raises(pickle.UnpicklingError, match="too deep"):
        _native.loads(message)


def test_false_counts_do_not_allocate():
    """A message takes memory in proportion to its length, whatever it says."""
    message = (b"l" + varint(150_000)) * 90
    message = message.ljust(200_000, b"\x81")
    tracemalloc.start()
    try:
        read_or_refuse(message)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(message)
    finally:
        tracemalloc.stop()
