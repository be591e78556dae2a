"""`Value` and `Array` beside the standard library's own: the same programs, the same outcomes."""

import array
import ctypes
import multiprocessing
import multiprocessing.sharedctypes
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import procession
from procession import sharedctypes
from tests.support.side_by_side import assert_alike, assert_programs_alike, attempt
from tests.support.wire_values import edges, patient

thorough = settings(patient, max_examples=300)


class Side:
    """One implementation, and the object that a program works on."""

    def __init__(self, package, types):
        self.package, self.types, self.it = package, types, None

    def held(self):
        """The ctypes object, with a wrapper around it or without."""
        return self.it.get_obj() if hasattr(self.it, "get_obj") else self.it


def sides():
    return Side(procession, sharedctypes), Side(multiprocessing, multiprocessing.sharedctypes)


TYPE_CODES = sorted(multiprocessing.sharedctypes.typecode_to_type)


class Narrow(ctypes.c_int):
    """A subclass of a simple type."""


class Point(ctypes.Structure):
    """Two fields."""

    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Renamed(Point):
    """Another name for the same fields."""


class Shape(ctypes.Structure):
    """A structure and arrays within a structure."""

    _fields_ = [
        ("x", ctypes.c_ubyte),
        ("corner", Point),
        ("items", ctypes.c_short * 3),
        ("name", ctypes.c_char * 4),
        ("label", ctypes.c_wchar * 2),
    ]


class Flags(ctypes.Structure):
    """Bit fields."""

    _fields_ = [("x", ctypes.c_uint, 3), ("y", ctypes.c_int, 5)]


class Packed(ctypes.Structure):
    """No gaps between the fields."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("x", ctypes.c_byte), ("y", ctypes.c_longlong)]


class Swapped(ctypes.BigEndianStructure):
    """The other byte order."""

    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_short)]


class Either(ctypes.Union):
    """Fields in the same place."""

    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_float), ("items", ctypes.c_ubyte * 4)]


class Unnamed(ctypes.Structure):
    """Fields reached through a field."""

    _anonymous_ = ("inner",)
    _fields_ = [("x", ctypes.c_int), ("inner", Either)]


SIMPLE = [
    *TYPE_CODES, Narrow, ctypes.c_bool, ctypes.c_int8, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p,
    ctypes.c_int.__ctype_be__, ctypes.c_double.__ctype_be__, ctypes.c_wchar, ctypes.c_char,
]  # fmt: skip
STRUCTURES = [Point, Renamed, Shape, Flags, Packed, Swapped, Either]
ARRAYS = [ctypes.c_int * 3, ctypes.c_char * 4, ctypes.c_wchar * 2, (ctypes.c_short * 2) * 2, Point * 2]

LOCKS = {
    "a new one": lambda side: True,
    "None": lambda side: None,
    "no lock": lambda side: False,
    "threading.Lock": lambda side: threading.Lock(),
    "threading.RLock": lambda side: threading.RLock(),
    "the package's Lock": lambda side: side.package.Lock(),
    "the package's RLock": lambda side: side.package.RLock(),
    "the stdlib's Lock": lambda side: multiprocessing.Lock(),
    "our RLock": lambda side: procession.RLock(),
    "zero": lambda side: 0,
    "no lock at all": lambda side: "lock",
}

locks = st.sampled_from(sorted(LOCKS))
numbers = st.integers(-3, 300) | st.sampled_from(edges) | st.floats() | st.booleans()
others = st.none() | st.binary(max_size=3) | st.text(max_size=3) | st.just(2 + 1j) | st.just(())
contents = numbers | others
points = st.tuples(st.integers(-9, 9), st.floats(-9, 9))
sequences = st.lists(contents, max_size=5)
initialisers = (
    st.integers(-2, 6)
    | st.booleans()
    | st.lists(numbers, max_size=5)
    | sequences
    | sequences.map(tuple)
    | st.integers(0, 5).map(range)
    | st.binary(max_size=5)
    | st.text(max_size=5)
    | st.lists(st.integers(-9, 9), max_size=5).map(lambda items: array.array("i", items))
    | st.lists(points, max_size=3)
    | st.sampled_from([None, 1.0, 2**70, {3, 4}, {"a": 1}, object(), iter(())])
)
indexes = st.integers(-7, 7) | st.booleans() | st.sampled_from([None, 1.0, "x", 2**70, -(2**70)])
bounds = st.none() | st.integers(-8, 8)
slices = st.builds(slice, bounds, bounds, st.none() | st.integers(-3, 3))


def described(obj):
    """A comparable form of a ctypes object's type and content; anything else unchanged."""
    if isinstance(obj, (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)):
        return type(obj).__name__, bytes(obj)
    return obj


def store(side, name, value):
    setattr(side.it, name, value)
    return described(getattr(side.it, name))


def store_held(side, name, value):
    with side.it as entered:
        setattr(side.held(), name, value)
    return entered, described(getattr(side.held(), name))


def acquire_and_release(side):
    return side.it.acquire(), bytes(side.held()), side.it.release()


def about_view(side):
    view = memoryview(side.held())
    return view.format, view.itemsize, view.shape, view.strides, view.readonly, view.nbytes


def poke(side, index, byte):
    """Change a byte by way of a view."""
    memoryview(side.held()).cast("B")[index] = byte
    return bytes(side.held())


def copy_and_change(side, byte):
    twin = side.types.copy(side.it)
    before = bytes(twin)
    memoryview(side.held()).cast("B")[0] = byte
    return type(twin).__name__, before, bytes(twin)


def wrap(side):
    wrapped = side.types.synchronized(side.it)
    return type(wrapped).__name__, type(wrapped.get_lock()).__name__, wrapped.get_obj() is side.it


STEPS = {
    "read": lambda side, name: described(getattr(side.it, name)),
    "write": store,
    "write under the lock": store_held,
    "acquire and release": acquire_and_release,
    "release": lambda side: side.it.release(),
    "lock": lambda side: type(side.it.get_lock()).__name__,
    "kind": lambda side: (type(side.it).__name__, type(side.held()).__name__),
    "repr": lambda side: repr(side.it).split(" at 0x")[0].split("<", 2)[-1].split(".")[-1],
    "bytes": lambda side: bytes(side.held()),
    "view": about_view,
    "poke": poke,
    "copy": copy_and_change,
    "wrap": wrap,
    "len": lambda side: len(side.it),
    "items": lambda side: [described(item) for item in side.it],
    "contains": lambda side, value: value in side.it,
    "get": lambda side, index: described(side.it[index]),
    "set": lambda side, index, value: side.it.__setitem__(index, value),
    "delete": lambda side, index: side.it.__delitem__(index),
    "reversed": lambda side: [described(item) for item in reversed(side.it)],
}

anywhere = (
    st.tuples(st.sampled_from(["acquire and release", "release", "lock", "kind", "repr", "bytes", "view"]))
    | st.tuples(st.just("poke"), st.integers(-3, 20), st.integers(0, 127))
    | st.tuples(st.just("copy"), st.integers(0, 127))
    | st.tuples(st.just("wrap"))
    | st.tuples(st.sampled_from(["len", "items"]))
)
writing = st.sampled_from(["write", "write under the lock"])
value_steps = (
    st.just(("read", "value")) | st.tuples(writing, st.just("value"), contents) | anywhere
    | st.tuples(st.just("write"), st.sampled_from(["raw", "note"]), contents)
)  # fmt: skip
whole = st.sampled_from(["value", "raw"])
array_steps = (
    anywhere
    | st.tuples(st.just("get"), indexes | slices)
    | st.tuples(st.just("set"), indexes, contents)
    | st.tuples(st.just("set"), slices, sequences | st.lists(numbers, max_size=5) | st.binary(max_size=5))
    | st.tuples(st.just("set"), indexes | slices, points | st.text(max_size=5))
    | st.tuples(st.just("read"), whole)
    | st.tuples(writing, whole, contents | st.binary(max_size=6))
    | st.tuples(st.just("delete"), indexes)
    | st.tuples(st.just("contains"), numbers)
    | st.just(("reversed",))
)
fields = st.sampled_from(["x", "y", "corner", "items", "name", "label", "none"])
structure_steps = (
    anywhere
    | st.tuples(st.just("read"), fields)
    | st.tuples(writing, fields, contents | points | st.tuples(numbers, numbers, numbers))
)


def assert_same_life(make, program):
    """The objects that `make` makes on both sides are alike, and alike through the whole program."""
    ours, theirs = sides()
    mine, ours.it = attempt(lambda: make(ours))
    its, theirs.it = attempt(lambda: make(theirs))
    assert mine[0] == its[0] and (mine[0] == "gives" or mine == its), f"made: {mine} here, {its} there"
    if mine[0] == "gives":
        assert_programs_alike([*program, ("bytes",)], STEPS, ours, theirs)


@thorough
@given(st.sampled_from(SIMPLE), st.lists(contents, max_size=2), locks, st.lists(value_steps, max_size=8))
def test_a_value(type_, initial, lock, program):
    """A `Value` of a simple type takes, converts and refuses what the stdlib's does."""
    assert_same_life(lambda side: side.package.Value(type_, *initial, lock=LOCKS[lock](side)), program)


@thorough
@given(st.sampled_from(SIMPLE), st.lists(contents, max_size=2), st.lists(value_steps, max_size=8))
def test_a_raw_value(type_, initial, program):
    """A `RawValue` is the ctypes object itself, as the stdlib's is."""
    assert_same_life(lambda side: side.package.RawValue(type_, *initial), program)


@thorough
@given(st.sampled_from(SIMPLE + STRUCTURES + ARRAYS), initialisers, locks, st.lists(array_steps, max_size=8))
@example("c", b"hello", "a new one", [("write", "value", b"abcde"), ("read", "raw"), ("read", "value")])
@example("c", b"a\0b", "a new one", [("read", "raw"), ("write", "raw", b"xyz"), ("read", "value")])
@example("i", range(5), "a new one", [("set", -1, 9), ("set", -5, 8), ("set", slice(3, 1, -1), [7, 6])])
@example("u", "hello", "threading.Lock", [("get", slice(None, None, -2)), ("set", 0, "x")])
@example("i", 0, "a new one", [("len",), ("items",), ("view",), ("get", 0), ("wrap",), ("bytes",)])
@example("h", True, "no lock", [("len",), ("items",), ("view",)])
def test_an_array(type_, initial, lock, program):
    """An `Array` is filled, indexed, sliced and assigned to as the stdlib's is."""
    assert_same_life(lambda side: side.package.Array(type_, initial, lock=LOCKS[lock](side)), program)


@thorough
@given(st.sampled_from(SIMPLE + STRUCTURES + ARRAYS), initialisers, st.lists(array_steps, max_size=8))
def test_a_raw_array(type_, initial, program):
    """A `RawArray` is the ctypes array itself, as the stdlib's is."""
    assert_same_life(lambda side: side.package.RawArray(type_, initial), program)


@thorough
@given(
    st.sampled_from([*STRUCTURES, Unnamed]),
    st.lists(numbers, max_size=3) | st.tuples(numbers, points),
    locks,
    st.lists(structure_steps, max_size=8),
)
@example(Shape, (1, (2, 3.0), (4, 5, 6), b"abcd", "xy"), "a new one", [("read", "corner"), ("bytes",)])
def test_a_structure(type_, initial, lock, program):
    """The fields of a structure or union are attributes of its wrapper, as they are in the stdlib."""
    assert_same_life(lambda side: side.package.Value(type_, *initial, lock=LOCKS[lock](side)), program)


@patient
@given(st.sampled_from(ARRAYS), st.lists(contents, max_size=3), locks, st.lists(array_steps, max_size=8))
def test_a_value_of_an_array_type(type_, initial, lock, program):
    """`Value(c_int * 3)` is an array with a lock, as in the stdlib."""
    assert_same_life(lambda side: side.package.Value(type_, *initial, lock=LOCKS[lock](side)), program)


NO_TYPES = [
    "z", "int", "", "ii", None, 5, 1.5, (), [], {}, int, object(), ctypes.c_int(3), Point(1, 2.0),
    ctypes.Structure, ctypes.Union, ctypes._SimpleCData, ctypes.Array, bytes, "é",
]  # fmt: skip


@pytest.mark.parametrize("no_type", NO_TYPES, ids=repr)
@pytest.mark.parametrize("lock", [True, False])
def test_what_is_no_type(no_type, lock):
    """Anything but a type code or a ctypes type raises the same exception everywhere."""
    ours, theirs = sides()
    assert_alike(lambda side: side.package.Value(no_type, lock=lock), ours, theirs)
    assert_alike(lambda side: side.package.RawValue(no_type, 1), ours, theirs)
    for initial in (0, 3, True, [], [1, 2], b"ab", None, 1.5):
        assert_alike(lambda side, it=initial: side.package.Array(no_type, it, lock=lock), ours, theirs)
        assert_alike(lambda side, it=initial: side.package.RawArray(no_type, it), ours, theirs)


@pytest.mark.parametrize(
    "call",
    [
        lambda package: package.Value(),
        lambda package: package.Value("i", 1, 2),
        lambda package: package.Value("i", x=1),
        lambda package: package.Value(Point, x=1),
        lambda package: package.Value(Point, 1, 2.0, 3),
        lambda package: package.Array("i"),
        lambda package: package.Array("i", 3, True),
        lambda package: package.Array(typecode_or_type="i", size_or_initializer=2)[:],
        lambda package: package.Value(typecode_or_type="i").value,
        lambda package: package.RawArray("i", size_or_initializer=[1])[:],
        lambda package: package.RawArray("i", 3, lock=True),
        lambda package: package.RawValue("i", lock=True),
        lambda package: package.RawArray("i", 2**70),
        lambda package: package.RawArray("i", 2**62),
    ],
)
def test_arguments(call):
    """Missing, surplus and impossible arguments raise the same exceptions."""
    assert_alike(call, procession, multiprocessing)


class Borrowed:
    """A lock that forwards every attribute to another lock."""

    def __init__(self):
        self.lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.lock, name)


class Bare:
    """A lock that is not a context manager."""

    def acquire(self):
        return "acquired"

    def release(self):
        pass


@pytest.mark.parametrize("lock", [1, 1.0, Borrowed, Bare, type("Half", (), {"acquire": None})], ids=repr)
@pytest.mark.parametrize("use", [lambda it: it[1], lambda it: it.raw, lambda it: it.acquire(), len])
def test_unusual_locks(lock, use):
    """Whatever the stdlib accepts as a lock, or as True, is accepted here."""

    def go(package):
        return use(package.Array("c", b"abc", lock=lock() if isinstance(lock, type) else lock))

    assert_alike(go, procession, multiprocessing)


def test_what_cannot_be_synchronized_or_copied():
    """Only ctypes objects get a wrapper or a twin, and no wrapper gets another."""
    ours, theirs = sides()
    for odd in (5, None, "x", object(), [1], bytearray(4)):
        assert_alike(lambda side, it=odd: type(side.types.copy(it)), ours, theirs)
        assert_alike(lambda side, it=odd: type(side.types.synchronized(it)), ours, theirs)
    assert_alike(lambda side: side.types.copy(side.package.Value("i")), ours, theirs)
    assert_alike(lambda side: side.types.synchronized(side.package.Value("i")), ours, theirs)


def test_pointers_have_no_wrapper():
    """Anything but a value, an array or a structure is shared without a lock or not at all."""
    for type_ in (ctypes.POINTER(ctypes.c_int), ctypes.CFUNCTYPE(None)):
        assert_alike(lambda package, it=type_: bool(package.RawValue(it)), procession, multiprocessing)
        assert_alike(lambda package, it=type_: bool(package.Value(it)), procession, multiprocessing)


def test_private_memory_is_wrapped_and_copied_too():
    """`synchronized` and `copy` take ctypes objects from anywhere."""
    ours, theirs = sides()
    for obj in (ctypes.c_int(7), (ctypes.c_char * 3)(b"a"), Point(1, 2.0), ctypes.c_double(0.5)):
        assert_alike(lambda side, it=obj: described(side.types.copy(it)), ours, theirs)
        assert_alike(lambda side, it=obj: type(side.types.synchronized(it)).__name__, ours, theirs)


@pytest.mark.parametrize("type_", SIMPLE + STRUCTURES + ARRAYS, ids=repr)
def test_numpy_sees_the_same(type_):
    """numpy reads type, shape and contents from both alike, and writes through to the shared memory."""
    numpy = pytest.importorskip("numpy")

    def look(package):
        shared = package.Array(type_, 3)
        view = numpy.frombuffer(shared.get_obj(), dtype=numpy.uint8)
        view[:] = numpy.arange(len(view)) % 50
        typed = numpy.asarray(shared.get_obj())
        return str(typed.dtype), typed.shape, view.flags.writeable, typed.tobytes(), bytes(shared.get_obj())

    assert_alike(look, procession, multiprocessing)


class Labelled(Point):
    """Fields of its own and inherited ones."""

    _fields_ = [("label", ctypes.c_char)]


class Empty(ctypes.Structure):
    """No fields."""


class Keyworded(ctypes.Structure):
    """A field whose name is a word of the language."""

    _fields_ = [("class", ctypes.c_int), ("with space", ctypes.c_int)]


def test_structures_that_the_stdlib_cannot_wrap():
    """Inherited fields, no fields and odd names: the stdlib's wrappers lack them or can't be made."""
    labelled = procession.Value(Labelled, 1, 2.0, b"z")
    assert (labelled.x, labelled.y, labelled.label) == (1, 2.0, b"z")
    with pytest.raises(AttributeError):
        _ = multiprocessing.Value(Labelled, 1, 2.0, b"z").x
    assert procession.Value(Empty).acquire() is True
    with pytest.raises(AttributeError):
        multiprocessing.Value(Empty)
    assert getattr(procession.Value(Keyworded, 3, 4), "class") == 3
    with pytest.raises(SyntaxError):
        multiprocessing.Value(Keyworded, 3, 4)
