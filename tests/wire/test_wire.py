"""The wire format: a message arrives as pickle would have delivered it."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import itertools
import pickle
import sys
import threading
import tracemalloc
from multiprocessing import reduction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procession import _native
from tests.support.wire_values import edges, graphs, patient, plain, portrait

PICKLED = b"P"


def through(value):
    """The value that the receiver gets."""
    return _native.loads(_native.dumps(value))


def through_pickle(value):
    """The value that the receiver would get from pickle."""
    return pickle.loads(pickle.dumps(value, 5))


def is_pickled(value):
    """Whether the value takes the slow path."""
    return _native.dumps(value).startswith(PICKLED)


@patient
@given(plain)
@example([float("nan"), float("inf"), -0.0])
@example([edges, tuple(edges), set(edges)])
@example(list(range(-300, 70000, 37)))
def test_plain_values_come_back_with_their_exact_types(value):
    """Values and types are what they were, to the last bit of a float."""
    assert portrait(through(value)) == portrait(value)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 2**14 - 1, 2**14, 2**14 + 1, 2**21, 2**21 + 1])
@pytest.mark.parametrize("kind", ["x", b"x", bytearray(b"x"), "é", (None,), [None]], ids=repr)
def test_every_length_comes_back(kind, length):
    """Lengths are correct where their own encoding changes length."""
    assert through(kind * length) == kind * length


@patient
@given(plain)
def test_plain_values_do_not_need_pickle(value):
    """Plain values take the fast path."""
    assert not is_pickled(value)


@patient
@given(graphs())
def test_sharing_and_cycles_are_those_of_pickle(value):
    """What was one list before is one list after, and what was two is two."""
    assert portrait(through(value)) == portrait(through_pickle(value))


@patient
@given(st.lists(st.sampled_from([chr(97 + i) * (i + 1) for i in range(70)]), max_size=300))
def test_repeated_strings_come_back_in_order(words):
    """However often strings recur, each one is itself."""
    assert through(words) == words
    assert through([{word: word} for word in words]) == [{word: word} for word in words]


def test_a_list_that_holds_itself():
    """The smallest cycle stays one."""
    value = [1]
    value.append(value)
    copy = through(value)
    assert copy[1] is copy and copy[0] == 1
    assert not is_pickled(value)


def test_a_dict_that_holds_itself():
    """A cycle through a dict's value stays one."""
    value = {"name": "x"}
    value["self"] = value
    copy = through(value)
    assert copy["self"] is copy and copy["name"] == "x"


def test_parents_and_children_that_know_each_other():
    """A tree with references upwards keeps them."""
    parent = {"children": []}
    for number in range(50):
        parent["children"].append({"parent": parent, "number": number})
    copy = through(parent)
    assert all(child["parent"] is copy for child in copy["children"])
    assert [child["number"] for child in copy["children"]] == list(range(50))


def test_a_tuple_that_holds_itself_through_a_list():
    """Only pickle can write such a tuple, and it comes back with its cycle."""
    value = ([],)
    value[0].append(value)
    copy = through(value)
    assert copy[0][0] is copy
    copy = through([value])
    assert copy[0][0][0] is copy[0]


def test_a_list_that_occurs_only_inside_a_repeated_tuple():
    """The list has a single reference, and is shared all the same."""
    pair = ([], {})
    first, second = through([pair, pair])
    assert first[0] is second[0] and first[1] is second[1]


def test_an_item_that_many_lists_share():
    """Many shared containers in one message do not get mixed up."""
    shared = [[number] for number in range(100)]
    copy = through([shared, list(reversed(shared)), {"again": shared}])
    assert all(a is b for a, b in zip(copy[0], reversed(copy[1]), strict=True))
    assert copy[2]["again"] is copy[0]
    assert copy[0] == shared


def test_equal_containers_stay_apart():
    """Two lists that only look alike are two lists afterwards."""
    first, second = through([[1], [1]])
    assert first is not second


def test_doubling_tuples_do_not_blow_up():
    """A value with 2**90 paths through it makes a small message."""
    value = (1, 2)
    for _ in range(90):
        value = (value, value)
    message = _native.dumps(value)
    assert len(message) < 1000
    copy = _native.loads(message)
    assert copy[0] is copy[1]


@pytest.mark.parametrize(
    "big", ["x" * 100_000, b"x" * 100_000, "é" * 100_000, bytearray(100_000), tuple(range(1000))]
)
def test_large_values_are_sent_once(big):
    """A large value with many references takes its space once."""
    assert len(_native.dumps([big] * 100)) < 1.5 * len(_native.dumps([big]))
    copy = through([big] * 100)
    assert copy == [big] * 100
    assert all(item is copy[0] for item in copy)


def test_records_send_their_keys_once():
    """The keys of many equal records do not make the message longer."""
    records = [{"a_rather_long_name": 1, "another_rather_long_name": 2} for _ in range(100)]
    assert len(_native.dumps(records)) < 100 * len("a_rather_long_name")
    assert through(records) == records


def test_wide_records_send_their_keys_once():
    """Many columns are no problem either."""
    names = [f"column_with_number_{number}" for number in range(200)]
    records = [dict.fromkeys(names, 0) for _ in range(50)]
    assert len(_native.dumps(records)) < 50 * 200 * 8
    assert through(records) == records


Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    """An enum."""

    RED = 1


class Level(enum.IntEnum):
    """An enum of ints."""

    LOW = 1


@dataclasses.dataclass
class Record:
    """An ordinary class."""

    name: str
    items: list


class Int(int):
    """A subclass."""


class Str(str):
    """A subclass."""


class Float(float):
    """A subclass."""


class Bytes(bytes):
    """A subclass."""


class Bytearray(bytearray):
    """A subclass."""


class Tuple(tuple):
    """A subclass."""


class List(list):
    """A subclass."""


class Dict(dict):
    """A subclass."""


class Set(set):
    """A subclass."""


class Frozenset(frozenset):
    """A subclass."""


foreign = [
    Int(5), Str("x"), Float(0.5), Bytes(b"x"), Bytearray(b"x"), Tuple((1, 2)), List([1]), Dict(a=1), Set({1}),
    Frozenset({1}), Level.LOW, Colour.RED, Point(1, 2), Record("x", [1]), 1j, range(3), ..., int, len,
    decimal.Decimal("1.5"), fractions.Fraction(1, 3), datetime.datetime(2020, 1, 2),
    collections.OrderedDict(a=1), collections.Counter("abca"), collections.deque([1, 2]),
    "\ud800", "a\udcffb", NotImplemented,
]  # fmt: skip


@pytest.mark.parametrize("value", foreign, ids=repr)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [1, "a", x],
        lambda x: (x, x),
        lambda x: {"key": x},
        lambda x: [[[{"a": (1, [x])}]]],
    ],
    ids=["alone", "in a list", "twice", "in a dict", "deep"],
)
def test_other_types_are_pickled(value, wrap):
    """Anything that is not exactly a plain type arrives as pickle brings it, with all around it."""
    value = wrap(value)
    assert is_pickled(value)
    assert portrait(through(value)) == portrait(through_pickle(value))


@pytest.mark.parametrize(
    "value", [Int(5), Str("x"), Tuple((1, 2)), Point(1, 2), Frozenset({1}), Colour.RED], ids=repr
)
def test_other_types_are_pickled_as_keys(value):
    """Keys and members of other types keep their type."""
    for container in ({value: 1}, {value}, frozenset({value})):
        assert is_pickled(container)
        assert portrait(through(container)) == portrait(container)


@patient
@given(plain, graphs())
def test_plain_values_beside_others_keep_their_sharing(value, graph):
    """One foreign object sends the whole value to pickle, so nothing comes apart."""
    value = [value, graph, Colour.RED, graph, value]
    assert portrait(through(value)) == portrait(through_pickle(value))


def nest(wrap, depth):
    """A value that many levels deep."""
    value = wrap(None)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


wraps = [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: frozenset([x])]


@pytest.mark.parametrize("wrap", wraps)
@pytest.mark.parametrize("depth", [1, 90, 99, 100, 101, 102, 150])
def test_deep_values_come_back(wrap, depth):
    """The depth at which pickle takes over is invisible."""
    assert portrait(through(nest(wrap, depth))) == portrait(nest(wrap, depth))


def test_values_too_deep_for_pickle_are_refused():
    """A value that pickle can't write raises what pickle raises."""
    with pytest.raises(RecursionError):
        _native.dumps(nest(lambda x: [x], 200_000))


def test_long_chains_of_shared_tuples_come_back():
    """A chain that is deep only through references is not too deep to send."""
    chain = [()]
    for number in range(2000):
        chain.append((number, chain[-1]))
    copy = through(chain)
    assert all(later[1] is earlier for earlier, later in itertools.pairwise(copy[1:]))
    assert [link[0] for link in copy[1:]] == list(range(2000))


def test_what_pickle_cannot_write_raises_what_pickle_raises():
    """An error names the reason, and the next message is fine."""
    for value in (lambda: None, [1, threading.Lock()], {"gen": (x for x in ())}):
        with pytest.raises(Exception) as theirs:
            reduction.ForkingPickler.dumps(value)
        with pytest.raises(type(theirs.value)):
            _native.dumps(value)
    assert through([1, 2]) == [1, 2]


class Registered:
    """A class that can only be sent by its registered reducer."""

    def __reduce_ex__(self, protocol):
        raise TypeError("not this way")


@pytest.fixture
def registry(monkeypatch):
    """A registry of reducers that may be changed."""
    monkeypatch.setattr(
        reduction.ForkingPickler, "_extra_reducers", dict(reduction.ForkingPickler._extra_reducers)
    )
    return reduction.ForkingPickler


def test_registered_reducers_are_honoured(registry):
    """A reducer registered with ForkingPickler applies from then on."""
    with pytest.raises(TypeError, match="not this way"):
        _native.dumps([Registered()])
    registry.register(Registered, lambda obj: (str, ("registered",)))
    assert through([Registered()]) == ["registered"]


@pytest.mark.parametrize(
    "value",
    [None, True, 5, 2**80, 0.5, "x", b"x", bytearray(b"x"), (1,), [1], {1: 1}, {1}, frozenset({1})],
    ids=repr,
)
def test_reducers_registered_for_plain_types_count_as_little_as_in_pickle(registry, value):
    """Pickle looks at exact plain types before it looks at its registry, and so do messages."""
    registry.register(type(value), lambda obj: (str, ("reduced",)))
    assert pickle.loads(reduction.ForkingPickler.dumps(value, 5)) == value
    assert through(value) == value


def test_a_replaced_pickler_is_used(monkeypatch):
    """The pickler is looked up each time, and gets protocol 5."""
    protocols = []

    class Replaced(reduction.ForkingPickler):
        @classmethod
        def dumps(cls, obj, protocol=None):
            protocols.append(protocol)
            return bytes(super().dumps(obj, protocol))

        @staticmethod
        def loads(data):
            return ("replaced", pickle.loads(data))

    monkeypatch.setattr(reduction, "ForkingPickler", Replaced)
    assert through(1j) == ("replaced", 1j)
    assert through([1]) == [1]
    assert protocols == [5]


class Nested:
    """Sends and receives messages while it is pickled and unpickled."""

    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return {"message": _native.dumps(self.value)}

    def __setstate__(self, state):
        self.value = _native.loads(state["message"])


def test_messages_within_messages():
    """Pickling an object may itself make messages."""
    inner = Nested([{"key": Nested({"key": 1})}])
    copy = through([{"key": inner}])[0]["key"]
    assert copy.value[0]["key"].value == {"key": 1}


def test_finalizers_that_change_what_is_being_written():
    """A garbage collection halfway may change the value; the message then has one state or the other."""
    value = {}

    class Meddler:
        def __del__(self):
            value.clear()
            value.update({str(number): {number} for number in range(20)})

    thresholds = gc.get_threshold()
    try:
        for _ in range(50):
            value.clear()
            value.update({number: {number, 2**70 + number} for number in range(10)})
            knot = [Meddler()]
            knot.append(knot)
            gc.set_threshold(1)
            del knot
            message = _native.dumps(value)
            gc.set_threshold(*thresholds)
            assert len(_native.loads(message)) in (10, 20)
    finally:
        gc.set_threshold(*thresholds)


def test_many_threads_at_once():
    """Messages made and read at the same time do not disturb each other."""
    failures = []

    def work(number):
        for turn in range(300):
            value = [
                {f"key{turn % 7}{number}": turn, "name": f"{number}", "again": (turn,)} for _ in range(5)
            ]
            if through(value) != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_messages_are_read_from_any_buffer(kind):
    """A message may lie in any bytes-like object."""
    assert _native.loads(kind(_native.dumps([1, "a", 1.5]))) == [1, "a", 1.5]
    assert _native.loads(kind(_native.dumps(1j))) == 1j


def test_values_do_not_refer_to_the_message():
    """What came out of a buffer stays when the buffer changes."""
    buffer = bytearray(_native.dumps([b"bytes" * 20, "text" * 20, bytearray(b"array")]))
    value = _native.loads(buffer)
    buffer[:] = bytes(len(buffer))
    assert value == [b"bytes" * 20, "text" * 20, bytearray(b"array")]


def test_nothing_leaks():
    """Messages leave no references behind, whether they were read or refused."""
    shared = ["shared" * 20]
    value = [shared, (shared,), {"key": shared}, 2**80, {1, 2}]
    message = _native.dumps(value)

    def work():
        for _ in range(200):
            _native.dumps(value)
            _native.dumps([value, 1j])
            _native.loads(message)
            for damaged in (message[:-1], b"u\x02" + message + b"?"):
                with pytest.raises(pickle.UnpicklingError):
                    _native.loads(damaged)

    work()
    before = sys.getrefcount(shared), sys.getrefcount(value)
    gc.collect()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        work()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - start < 20_000
    finally:
        tracemalloc.stop()
    assert (sys.getrefcount(shared), sys.getrefcount(value)) == before
