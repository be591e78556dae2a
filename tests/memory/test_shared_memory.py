"""Named shared memory: segments registered with the resource tracker end with the program, others stay."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from procession import managers, shared_memory
from procession.shared_memory import ShareableList, SharedMemory

TRACK_TRAVELS = SharedMemory.__module__ == "procession.shared_memory"


@pytest.fixture
def segment() -> Iterator[Any]:
    """A segment that is not registered with a tracker."""
    memory = SharedMemory(create=True, size=64, track=False)
    yield memory
    memory.close()
    remove(memory.name)


def remove(name: str) -> None:
    try:
        SharedMemory(name, track=False).unlink()
    except FileNotFoundError:
        pass


def exists(name: str) -> bool:
    return os.path.exists(f"/dev/shm/{name}")


def test_memory_is_opened_by_its_name(segment: Any) -> None:
    """Two handles share one segment; unlinking removes it."""
    other = SharedMemory(segment.name, track=False)
    other.buf[:5] = b"hello"
    assert bytes(segment.buf[:5]) == b"hello" and other.size == segment.size
    other.close()
    segment.unlink()
    assert not exists(segment.name)
    with pytest.raises(FileNotFoundError):
        SharedMemory(segment.name, track=False)


@pytest.mark.parametrize("track", [True, False])
def test_wrong_arguments_are_refused_with_and_without_a_tracker(track: bool, segment: Any) -> None:
    """Sizes below one, no name, a name that is taken; track is a keyword."""
    for arguments in ({"create": True, "size": -1}, {"create": True, "size": 0}, {"size": 10}):
        with pytest.raises(ValueError):
            SharedMemory(**arguments, track=track)
    with pytest.raises(FileExistsError):
        SharedMemory(segment.name, create=True, size=1, track=track)
    with pytest.raises(TypeError):
        SharedMemory(segment.name, False, 0, track)  # type: ignore[misc]
    assert exists(segment.name)


OPEN_AND_END = """
import sys
from procession.shared_memory import SharedMemory
memory = SharedMemory(sys.argv[1], track=sys.argv[2] == "tracked")
assert bytes(memory.buf[:1]) == b"!"
memory.close()
"""


def test_a_program_that_opens_another_ones_memory_leaves_it_there(run_script: Any, segment: Any) -> None:
    """With track=False; with a tracker it is removed when the program ends, and there are warnings."""
    segment.buf[0] = ord("!")
    done = run_script(OPEN_AND_END, segment.name, "untracked")
    assert (done.returncode, done.stderr) == (0, "") and exists(segment.name)
    done = run_script(OPEN_AND_END, segment.name, "tracked")
    assert done.returncode == 0 and "leaked shared_memory" in done.stderr and not exists(segment.name)


MAKE_AND_END = """
import os, sys
from procession.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=8, track=sys.argv[1] == "tracked")
print(memory.name, flush=True)
if "unlink" in sys.argv:
    memory.close()
    memory.unlink()
"""


@pytest.mark.parametrize(
    ("arguments", "stays", "complains"),
    [
        (["untracked"], True, False),
        (["untracked", "unlink"], False, False),
        (["tracked"], False, True),
        (["tracked", "unlink"], False, False),
    ],
)
def test_untracked_memory_outlives_its_program_until_it_is_unlinked(
    run_script: Any, arguments: list[str], stays: bool, complains: bool
) -> None:
    """The tracker removes, and reports, only registered segments."""
    done = run_script(MAKE_AND_END, *arguments)
    name = done.stdout.strip()
    assert done.returncode == 0 and exists(name) is stays
    assert ("leaked" in done.stderr) is complains and (complains or done.stderr == "")
    remove(name)


TWO_HANDLES = """
from procession.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=8)
other = SharedMemory(memory.name, track=False)
other.close()
print(memory.name)
"""


def test_an_untracked_handle_does_not_take_the_tracked_ones_place(run_script: Any) -> None:
    """The tracker still knows what the first handle told it."""
    done = run_script(TWO_HANDLES)
    assert "leaked shared_memory" in done.stderr and not exists(done.stdout.strip())


def write(memory: Any) -> None:
    memory.buf[:5] = b"child"
    memory.close()


def test_memory_is_handed_to_a_child(ctx: Any) -> None:
    """The child opens it by its name."""
    memory = SharedMemory(create=True, size=16)
    try:
        process = ctx.Process(target=write, args=(memory,))
        process.start()
        process.join(60)
        assert process.exitcode == 0 and bytes(memory.buf[:5]) == b"child"
    finally:
        memory.close()
        memory.unlink()


@pytest.mark.skipif(not TRACK_TRAVELS, reason="the standard library's class forgets it")
def test_a_handle_stays_untracked_on_its_way(segment: Any) -> None:
    """It stays unregistered when it is pickled, and in a child of any start method."""
    twin = pickle.loads(pickle.dumps(segment))
    assert twin.name == segment.name and twin._track is False
    twin.close()
    tracked = SharedMemory(create=True, size=8)
    assert pickle.loads(pickle.dumps(tracked))._track is True
    tracked.unlink()


def test_lists_in_shared_memory_keep_their_type_on_the_way(ctx: Any) -> None:
    """A ShareableList is changed by a child; so is its memory."""
    items = ShareableList([1, 2.5, "word", None, True, b"raw"])
    try:
        process = ctx.Process(target=change_items, args=(items, items.shm))
        process.start()
        process.join(60)
        assert process.exitcode == 0 and list(items) == [2, 2.5, "term", None, True, b"raw"]
        assert type(items.shm) is SharedMemory and type(pickle.loads(pickle.dumps(items))) is ShareableList
    finally:
        items.shm.close()
        items.shm.unlink()


def change_items(items: Any, memory: Any) -> None:
    assert items.shm.name == memory.name
    items[0] += 1
    items[2] = "term"
    items.shm.close()
    memory.close()


def take_part(memory: Any, items: Any) -> None:
    memory.buf[0] = 7
    items[0] = "child"


def test_a_shared_memory_manager_gives_out_memory_for_children(ctx: Any) -> None:
    """Both of its kinds, of the types this module has, and both are gone with the manager."""
    with managers.SharedMemoryManager(ctx=ctx) as manager:
        memory, items = manager.SharedMemory(32), manager.ShareableList(["parent"])
        assert type(memory) is SharedMemory and type(items) is ShareableList
        process = ctx.Process(target=take_part, args=(memory, items))
        process.start()
        process.join(60)
        assert process.exitcode == 0 and memory.buf[0] == 7 and items[0] == "child"
        names = [memory.name, items.shm.name]
        memory.close()
        items.shm.close()
        assert all(map(exists, names))
    assert not any(map(exists, names))


UNDER_THE_ALIAS = """
import procession
procession.install(force=True)
import multiprocessing.shared_memory
from multiprocessing.managers import SharedMemoryManager

def child(memory, items, inner):
    memory.buf[0] = items[0] = inner.buf[0] and 9

if __name__ == "__main__":
    assert multiprocessing.shared_memory is procession.shared_memory
    for method in ("fork", "spawn", "forkserver"):
        ctx = multiprocessing.get_context(method)
        with SharedMemoryManager(ctx=ctx) as manager:
            memory, items = manager.SharedMemory(8), manager.ShareableList([1])
            process = ctx.Process(target=child, args=(memory, items, items.shm))
            process.start()
            process.join(60)
            assert process.exitcode == 0 and memory.buf[0] == items[0] == 9
            memory.close()
            items.shm.close()
    print("done")
"""


def test_memory_is_found_by_name_where_multiprocessing_is_this_package(run_script: Any) -> None:
    """Of a manager and by itself, under every start method."""
    done = run_script(UNDER_THE_ALIAS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_patches_of_the_module_reach_the_stdlibs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are not the package's own are written where the classes look them up."""
    names = iter(["/procession_first", "/procession_first", "/procession_second"])
    monkeypatch.setattr(shared_memory, "_make_filename", lambda: next(names))
    first, second = (SharedMemory(create=True, size=1, track=False) for _ in range(2))
    assert [first.name, second.name] == ["procession_first", "procession_second"]
    for memory in (first, second):
        memory.close()
        memory.unlink()
    assert procession.shared_memory is shared_memory
