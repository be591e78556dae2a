"""A `Value` between processes."""

import ctypes
import gc
import pickle
import threading

import pytest

import procession
from procession import sharedctypes

TYPE_CODES = sorted(sharedctypes.typecode_to_type)


class Point(ctypes.Structure):
    """A structure of two fields."""

    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Labelled(Point):
    """A structure with inherited fields."""

    _fields_ = [("label", ctypes.c_char)]


def add(value, amount, times=1):
    for _ in range(times):
        with value.get_lock():
            value.value += amount


def set_raw(values):
    for value, new in values:
        value.value = new


def move(point):
    point.x += 10
    with point:
        point.get_obj().y *= 2


def test_a_child_changes_a_value(ctx):
    """The parent reads what the child wrote."""
    value = ctx.Value("i", 10)
    child = ctx.Process(target=add, args=(value, 1))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert value.value == 11


def test_a_value_nobody_else_refers_to(ctx):
    """A value made in the arguments of a process lives until the process ends."""
    child = ctx.Process(target=add, args=(ctx.Value("i", 10), 1))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_increments_under_the_lock_are_not_lost(ctx):
    """Two processes add to one value."""
    value = ctx.Value("q", 0)
    children = [ctx.Process(target=add, args=(value, 1, 1000)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert value.value == 2000


def test_raw_values_are_shared_too(ctx):
    """A RawValue has no lock and is shared all the same."""
    changes = [
        ("i", 4343, 24234),
        ("d", 3.625, -4.25),
        ("h", -232, 234),
        ("q", 2**33, 2**34),
        ("c", b"x", b"y"),
    ]
    values = [(ctx.RawValue(code, old), new) for code, old, new in changes]
    child = ctx.Process(target=set_raw, args=(values,))
    child.start()
    child.join()
    assert [value.value for value, _ in values] == [new for _, new in values]


@pytest.mark.parametrize("code", TYPE_CODES)
def test_values_behave_as_their_ctypes_do(code):
    """Each type code wraps, converts and refuses what its ctypes type does."""
    value, model = procession.Value(code), sharedctypes.typecode_to_type[code]()
    assert value.value == model.value
    for new in (0, 1, -1, 2**15, 2**31, 2**40, 2**64, 1.5, b"x", b"xy", "x", "xy", None, True):
        outcomes = []
        for target in (value, model):
            try:
                target.value = new
                outcomes.append(target.value)
            except (TypeError, ValueError, OverflowError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]


def test_structures(ctx):
    """The fields of a structure are properties of its wrapper."""
    point = ctx.Value(Point, 1, 2.5)
    child = ctx.Process(target=move, args=(point,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert (point.x, point.y) == (11, 5.0)
    assert type(point).__name__ == "SynchronizedPoint"
    assert type(procession.Value(Point)) is type(point)


def test_inherited_fields():
    """Fields of base structures are there too."""
    labelled = procession.Value(Labelled, 1, 2.0, b"z")
    assert (labelled.x, labelled.y, labelled.label) == (1, 2.0, b"z")


def test_locks():
    """`lock` makes, takes or leaves out the lock."""
    value = procession.Value("i", 5)
    assert isinstance(value.get_lock(), procession.synchronize.RLock)
    assert isinstance(procession.Value("i", 5, lock=None).get_lock(), procession.synchronize.RLock)
    lock = procession.Lock()
    assert procession.Value("i", 5, lock=lock).get_lock() is lock
    user_lock = threading.Lock()
    guarded = procession.Value("i", 5, lock=user_lock)
    with guarded:
        assert user_lock.locked()
    raw = procession.Value("i", 5, lock=False)
    assert raw.value == 5
    assert not hasattr(raw, "get_lock") and not hasattr(raw, "get_obj")
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        procession.Value("i", 5, lock="navalue")


def test_access_waits_for_the_lock():
    """Reading through the wrapper needs the lock."""
    lock = procession.Lock()
    value = procession.Value("i", 5, lock=lock)
    read = []
    with lock:
        reader = threading.Thread(target=lambda: read.append(value.value))
        reader.start()
        value.get_obj().value = 6
    reader.join()
    assert read == [6]


@pytest.mark.parametrize("code", ["z", "int", "", None, int])
def test_an_unknown_type_code_is_a_type_error(code):
    """In the words of the running Python and of the next; the message says which codes there are."""
    message = "bad typecode .*, this type has no size: .* type codes are c u b B h H i I l L q Q f d"
    with pytest.raises(TypeError, match=message):
        procession.Value(code)


def test_a_copy_is_independent():
    """`copy` makes a new shared object."""
    point = procession.RawValue(Point, 1, 2.0)
    twin = sharedctypes.copy(point)
    point.x = 7
    assert (twin.x, twin.y) == (1, 2.0)


def test_a_wrapper_cannot_be_wrapped():
    """`synchronized` takes bare objects."""
    with pytest.raises(AssertionError, match="already synchronized"):
        sharedctypes.synchronized(procession.Value("i"))


def test_memory_lives_as_long_as_a_view_of_it():
    """A view of a freed value stays valid."""
    view = memoryview(procession.RawValue("i", 77))
    gc.collect()
    others = [procession.RawValue("i", 88) for _ in range(100)]
    assert bytes(view) == (77).to_bytes(4, "little")
    assert len(others) == 100


def test_memory_comes_back():
    """Freed values leave nothing behind."""
    from procession import _native

    gc.collect()
    before = _native.memory_stats()["objects"]
    values = [procession.Value("d", 1.0) for _ in range(10)]
    assert _native.memory_stats()["objects"] == before + 20
    del values
    gc.collect()
    assert _native.memory_stats()["objects"] == before


def test_pickling_outside_a_start_is_refused():
    """A value is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.Value("i"))


def test_repr():
    """`repr` shows the wrapper and what it wraps."""
    assert repr(procession.Value("i", 3)) == "<Synchronized wrapper for c_int(3)>"


def add_many(number, times):
    for _ in range(times):
        number.add(1)


def test_add_is_one_step(ctx):
    """Processes that add at the same time lose nothing; the new value is returned."""
    number = ctx.Value("q", 0)
    children = [ctx.Process(target=add_many, args=(number, 500)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert number.value == 1000
    assert number.add(5) == 1005
    assert procession.Value("b", 127).add(1) == -128
    assert procession.Value("d", 1.0).add(0.5) == 1.5


def test_add_works_under_any_lock():
    """A lock that its holder cannot take twice, too."""
    number = procession.Value("i", 1, lock=procession.Lock())
    assert number.add(2) == 3
