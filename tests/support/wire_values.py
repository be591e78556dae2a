"""Values to send, and how to compare what arrives."""

import struct

from hypothesis import settings
from hypothesis import strategies as st

patient = settings(deadline=None)


def portrait(value):
    """A comparable form of a value: exact types, order, and the sharing and cycles of mutable containers."""
    numbers = {}

    def draw(value):
        kind = type(value)
        if kind in (list, dict, set, bytearray):
            number = numbers.get(id(value))
            if number is not None:
                return ("again", number)
            numbers[id(value)] = number = len(numbers)
        if kind is float:
            return ("float", struct.pack("d", value))
        if kind is list or kind is tuple:
            items = [draw(item) for item in value]
        elif kind is dict:
            items = [(draw(key), draw(item)) for key, item in value.items()]
        elif kind is set or kind is frozenset:
            items = sorted((draw(item) for item in value), key=repr)
        else:
            items = repr(value)
        return (kind.__name__, items)

    return draw(value)


edges = [
    sign * (1 << bits) + off
    for bits in (7, 8, 15, 16, 31, 32, 63, 64, 127)
    for sign in (1, -1)
    for off in (-1, 0, 1)
]
ints = st.integers() | st.integers(-(2**70), 2**70) | st.integers(-300, 300) | st.sampled_from(edges)
texts = (
    st.text()
    | st.text(min_size=60, max_size=70)
    | st.sampled_from(["", "a", "id", "name", "é", "日本", "\0"])
)
atoms = (
    st.none() | st.booleans() | ints | st.floats() | texts | st.binary() | st.binary(min_size=60, max_size=70)
)
hashables = st.recursive(
    atoms,
    lambda items: st.lists(items, max_size=4).map(tuple) | st.frozensets(items, max_size=4),
    max_leaves=8,
)
plain = st.recursive(
    hashables | st.binary().map(bytearray),
    lambda items: (
        st.lists(items, max_size=6)
        | st.lists(items, max_size=6).map(tuple)
        | st.dictionaries(hashables, items, max_size=6)
        | st.dictionaries(texts, items, max_size=6)
        | st.sets(hashables, max_size=6)
    ),
    max_leaves=30,
)


@st.composite
def graphs(draw):
    """Mutable containers that hold one another, or themselves, directly or inside tuples."""
    nodes = [
        kind() for kind in draw(st.lists(st.sampled_from([list, dict, bytearray]), min_size=1, max_size=8))
    ]
    values = [*nodes, "a short one", "a long one" * 10, b"bytes" * 20, (), 1, None]
    values += [(node,) for node in nodes] + [(node, ((node, 7), "x")) for node in nodes]
    for holder in nodes:
        for number, value in enumerate(draw(st.lists(st.sampled_from(values), max_size=6))):
            if type(holder) is list:
                holder.append(value)
            elif type(holder) is dict:
                holder[draw(st.sampled_from([number, "key", "another", (1, "in a tuple")]))] = value
    return draw(st.sampled_from([nodes, tuple(nodes), values, *values]))
