"""Values arrive as pickle would bring them: values that `tests/wire` does not generate."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession import _native
from tests.support.wire_values import patient, portrait


def through(value):
    """The value that the receiver gets."""
    return _native.loads(_native.dumps(value))


def through_pickle(value):
    """The value that the receiver would get from pickle."""
    return pickle.loads(pickle.dumps(value, 5))


class Node:
    """An object that refers to whatever it is given."""

    def __init__(self, name):
        self.name = name
        self.links = []


@pytest.mark.parametrize("size", [1, 2, 8, 9, 126, 127, 128, 129, 255, 256, 2047, 2**14 - 1, 2**14, 100_000])
def test_huge_ints_come_back(size):
    """Ints of any length keep their sign, also where the length in bytes changes."""
    for bits in (8 * size - 1, 8 * size):
        for value in (1 << bits, (1 << bits) - 1, (1 << bits) + 1):
            assert through([value, -value]) == [value, -value]


@patient
@given(st.floats(), st.integers(), st.text(max_size=3))
def test_nan_is_a_key_like_any_other(value, other, text):
    """Each NaN stays a separate key or member, since it equals nothing."""
    nan, another = float("nan"), float("nan")
    keyed = {nan: value, text: other, another: other, value: text}
    for container in (keyed, set(keyed), frozenset(keyed), [nan, nan, another], {(nan, value): nan}):
        assert portrait(through(container)) == portrait(through_pickle(container))


texts = st.text(st.characters(categories=["Lu", "Cs", "So"]), min_size=1, max_size=4)


@patient
@given(st.lists(texts, min_size=1, max_size=6))
def test_lone_surrogates_come_back_wherever_they_are(words):
    """Strings with lone surrogates are values, keys and members like others, and keep their order."""
    value = [words, {word: [word] for word in words}, set(words), frozenset(words), tuple(words)]
    assert portrait(through(value)) == portrait(through_pickle(value))


def test_objects_in_a_cycle_with_plain_containers():
    """An object and the list and the dict that hold it know each other afterwards, as with pickle."""
    for carry in (through, through_pickle):
        node = Node("a")
        table = {"node": node, "links": node.links}
        node.links += [node, table, (node, table)]
        first, second = carry([table, table])
        assert first is second
        copy = first["node"]
        assert first["links"] is copy.links
        assert copy.links[0] is copy and copy.links[1] is first
        assert copy.links[2][0] is copy and copy.links[2][1] is first


@patient
@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_dicts_keep_the_order_of_their_history(keys, moved):
    """A key that was removed and inserted again comes last on both sides."""
    value = {key: str(key) for key in keys}
    for key in moved:
        value[key] = value.pop(key)
    assert list(through(value).items()) == list(value.items())
