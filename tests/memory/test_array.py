"""An `Array` between processes."""

import array
import ctypes
import gc
import pickle

import numpy as np
import pytest

import procession
from procession import heap, sharedctypes


class Pixel(ctypes.Structure):
    """One dot."""

    _fields_ = [("red", ctypes.c_ubyte), ("green", ctypes.c_ubyte)]


def add_one(numbers):
    for index in range(len(numbers)):
        numbers[index] += 1


def shout(text):
    text.value = text.value.upper()


def fill(wrapper):
    wrapper.create_memoryview()[:] = b"filled"


@pytest.mark.parametrize("kind", ["Array", "RawArray"])
def test_a_child_changes_an_array(ctx, kind):
    """The parent reads what the child wrote."""
    numbers = getattr(ctx, kind)("i", [0, 1, 2])
    child = ctx.Process(target=add_one, args=(numbers,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert numbers[:] == [1, 2, 3]


def test_items_and_slices():
    """An array is indexed, sliced and assigned to as a list of fixed length."""
    numbers = procession.Array("i", range(10))
    assert (len(numbers), numbers[3], numbers[-1], numbers[2:5]) == (10, 3, 9, [2, 3, 4])
    numbers[4:8] = array.array("i", [1, 2, 3, 4])
    assert list(numbers) == [0, 1, 2, 3, 1, 2, 3, 4, 8, 9]
    with pytest.raises(IndexError):
        numbers[10]
    with pytest.raises(ValueError):
        numbers[0:2] = [1]


def test_an_array_of_a_size_is_zeroed():
    """Reused memory is zeroed."""
    for _ in range(3):
        numbers = procession.Array("i", 100)
        assert numbers[:] == [0] * 100
        numbers[:] = range(100)
        del numbers


def test_an_empty_array():
    """No items at all is legal."""
    assert len(procession.Array("d", 0)) == 0
    assert len(procession.RawArray("d", [])) == 0


def test_a_negative_size_is_a_value_error():
    """A negative size is refused."""
    with pytest.raises(ValueError):
        procession.RawArray("i", -1)


def test_an_unknown_type_code_is_a_type_error():
    """The message says which codes there are."""
    with pytest.raises(TypeError, match="type codes are"):
        procession.Array("z", 3)


def test_strings(ctx):
    """An array of characters has `value` and `raw`."""
    text = ctx.Array("c", b"hello\0\0\0")
    assert isinstance(text, sharedctypes.SynchronizedString)
    child = ctx.Process(target=shout, args=(text,))
    child.start()
    child.join()
    assert (text.value, text.raw) == (b"HELLO", b"HELLO\0\0\0")


def test_locks():
    """`lock` makes, takes or leaves out the lock."""
    assert isinstance(procession.Array("i", 3), sharedctypes.SynchronizedArray)
    lock = procession.Lock()
    assert procession.Array("i", 3, lock=lock).get_lock() is lock
    assert not hasattr(procession.Array("i", 3, lock=False), "get_lock")
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        procession.Array("i", 3, lock="notalock")


def test_numpy_sees_the_shared_memory():
    """`numpy.frombuffer` gives a writable view that keeps the memory alive."""
    numpy = pytest.importorskip("numpy")
    numbers = procession.Array("d", 5)
    view = numpy.frombuffer(numbers.get_obj(), dtype=numpy.float64)
    view[:] = range(5)
    assert numbers[:] == [0.0, 1.0, 2.0, 3.0, 4.0]
    del numbers
    gc.collect()
    others = [procession.Array("d", [9.0] * 5) for _ in range(50)]
    assert view.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(others) == 50


def test_items_of_an_array_of_structures_keep_it_alive():
    """A structure taken out of an array is part of it."""
    pixels = procession.RawArray(Pixel, [(1, 2), (3, 4)])
    second = pixels[1]
    second.red = 30
    assert pixels[1].red == 30
    del pixels
    gc.collect()
    others = [procession.RawArray(Pixel, 2) for _ in range(50)]
    assert (second.red, second.green, len(others)) == (30, 4, 50)


def test_a_buffer_wrapper_is_handed_over(ctx):
    """`heap.BufferWrapper` shares plain bytes."""
    wrapper = heap.BufferWrapper(6)
    child = ctx.Process(target=fill, args=(wrapper,))
    child.start()
    child.join()
    assert bytes(wrapper.create_memoryview()) == b"filled"


def test_a_view_of_a_buffer_can_be_cast_and_keeps_it_alive():
    """Barriers and lists in the stdlib's tests use it by casting."""
    numbers = heap.BufferWrapper(8).create_memoryview().cast("i")
    gc.collect()
    others = [heap.BufferWrapper(8) for _ in range(50)]
    numbers[1] = 5
    assert (list(numbers), len(others)) == ([0, 5], 50)


@pytest.mark.parametrize(("size", "error"), [(-1, ValueError), (2**63 - 1, OverflowError)])
def test_an_impossible_buffer_is_refused(size, error):
    """Sizes are checked as the stdlib checks them."""
    with pytest.raises(error):
        heap.BufferWrapper(size)


def test_too_much_memory_is_a_memory_error():
    """The error says which limit was met, and nothing is lost."""
    with pytest.raises(MemoryError, match="limit"):
        procession.RawArray("b", 2**46)
    assert len(procession.RawArray("b", 10)) == 10


def test_pickling_outside_a_start_is_refused():
    """An array is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.Array("i", 3))
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(heap.BufferWrapper(3))


def test_numpy_and_memoryview_look_at_the_shared_memory_itself(ctx):
    """No copy: what a child writes shows, and what is written through the view shows in the child."""
    numbers = ctx.Array("d", [1.0, 2.0, 3.0])
    view = np.asarray(numbers)
    assert view.dtype == np.dtype("f8") and view.flags.writeable
    view[0] = 10
    child = ctx.Process(target=add_one, args=(numbers,))
    child.start()
    child.join()
    assert view.tolist() == [11, 3, 4]
    assert memoryview(numbers).shape == (3,)
    assert memoryview(numbers).cast("B").cast("d").tolist() == [11, 3, 4]


def test_the_memory_lives_as_long_as_a_view_of_it():
    """The array itself need not."""
    view = memoryview(procession.Array("i", [1, 2, 3]))
    gc.collect()
    others = [procession.Array("i", [9] * 3) for _ in range(10)]
    assert view.cast("B").cast("i").tolist() == [1, 2, 3]
    del others


def test_items_are_converted_as_ctypes_does_it():
    """Values that do not fit are truncated, numbers of another type are an error, and True is 1."""
    numbers = procession.Array("B", 3)
    numbers[0], numbers[1], numbers[-1] = 257, -1, True
    assert numbers[:] == [1, 255, 1]
    for wrong in ("1", 1.5, None):
        with pytest.raises(TypeError):
            numbers[0] = wrong
    halves = procession.Array("f", 2)
    halves[0], halves[1] = 0.1, 3
    assert halves[0] == ctypes.c_float(0.1).value and halves[1] == 3.0
    with pytest.raises(IndexError, match="invalid index"):
        halves[2]
    with pytest.raises(IndexError):
        halves[-3] = 1.0
