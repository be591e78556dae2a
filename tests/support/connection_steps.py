"""A connected pair of ends, and the steps that programs take with them, for every kind of connection."""

import array
import ctypes

import procession


class Line:
    """Two connected ends, and how many objects are on the way to each."""

    def __init__(self, ends):
        self.ends = ends
        self.coming = [0, 0]

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for end in self.ends:
            end.close()

    def would_return(self, number):
        """Whether receiving at this end returns or raises instead of waiting."""
        end = self.ends[number]
        return end.closed or not end.readable or end.poll(10 if self.coming[number] else 0)


def sockets(family, listening, calling):
    """A connected pair of sockets."""
    with listening.Listener(family=family) as listener:
        caller = calling.Client(listener.address)
        return Line((listener.accept(), caller))


BUFFERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "chars": lambda data: memoryview(data).cast("c"),
    "shorts": lambda data: array.array("h", data + data),
    "ints": lambda data: array.array("i", list(data)),
    "doubles": lambda data: memoryview(array.array("d", list(data))),
    "ctypes": lambda data: (ctypes.c_short * len(data))(*data),
    "str": lambda data: data.decode("latin-1"),
    "list": list,
    "int": len,
    "None": lambda data: None,
}

INTO = {
    "bytearray": bytearray,
    "memoryview": lambda size: memoryview(bytearray(size)),
    "shorts": lambda size: array.array("h", [0] * (size // 2)),
    "ints": lambda size: array.array("i", [0] * (size // 4)),
    "ctypes": lambda size: (ctypes.c_short * (size // 2))(),
    "read-only": bytes,
    "str": lambda size: "x" * size,
    "None": lambda size: None,
}


def send(line, number, obj):
    line.ends[number].send(obj)
    line.coming[1 - number] += 1


def receive(line, number):
    if not line.would_return(number):
        return "nothing there"
    obj = line.ends[number].recv()
    line.coming[number] -= 1
    return obj


def send_bytes(line, number, kind, data, *args):
    return line.ends[number].send_bytes(BUFFERS[kind](data), *args)


def receive_bytes(line, number, *args):
    if not line.would_return(number):
        return "nothing there"
    return line.ends[number].recv_bytes(*args)


def receive_into(line, number, kind, size, *args):
    """The length of the message and the content of the buffer, as far as items are whole."""
    if not line.would_return(number):
        return "nothing there"
    buffer = INTO[kind](size)
    try:
        count = line.ends[number].recv_bytes_into(buffer, *args)
    except procession.BufferTooShort as error:
        return "too short", error.args
    view = memoryview(buffer)
    begin = args[0] if args else 0
    whole_items = begin % view.itemsize == 0 and count % view.itemsize == 0
    return count, view.tobytes() if whole_items else "in parts"


def poll(line, number, *args):
    if args == (None,) and not line.would_return(number):
        return "would wait for ever"
    if line.coming[number] and not line.ends[number].closed:
        line.would_return(number)
    return line.ends[number].poll(*args)


def leave_block(line, number):
    with line.ends[number] as entered:
        assert entered is line.ends[number]


def look(line, number):
    end = line.ends[number]
    return end.closed, end.readable, end.writable


MOVES = {
    "send": send,
    "receive": receive,
    "send bytes": send_bytes,
    "receive bytes": receive_bytes,
    "receive into": receive_into,
    "poll": poll,
    "close": lambda line, number: line.ends[number].close(),
    "leave a block": leave_block,
    "look": look,
    "fileno": lambda line, number: type(line.ends[number].fileno()),
}
