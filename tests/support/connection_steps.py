"""A connected pair of ends, and the steps that programs take with them, for every kind of connection."""

import array
import ctypes

import procession


class ConnectedPair:
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
        return ConnectedPair((listener.accept(), caller))


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


def send(pair, number, obj):
    pair.ends[number].send(obj)
    pair.coming[1 - number] += 1


def receive(pair, number):
    if not pair.would_return(number):
        return "nothing there"
    obj = pair.ends[number].recv()
    pair.coming[number] -= 1
    return obj


def send_bytes(pair, number, kind, data, *args):
    return pair.ends[number].send_bytes(BUFFERS[kind](data), *args)


def receive_bytes(pair, number, *args):
    if not pair.would_return(number):
        return "nothing there"
    return pair.ends[number].recv_bytes(*args)


def receive_into(pair, number, kind, size, *args):
    """The length of the message and the content of the buffer, as far as items are whole."""
    if not pair.would_return(number):
        return "nothing there"
    buffer = INTO[kind](size)
    try:
        count = pair.ends[number].recv_bytes_into(buffer, *args)
    except procession.BufferTooShort as error:
        return "too short", error.args
    view = memoryview(buffer)
    begin = args[0] if args else 0
    whole_items = begin % view.itemsize == 0 and count % view.itemsize == 0
    return count, view.tobytes() if whole_items else "in parts"


def poll(pair, number, *args):
    if args == (None,) and not pair.would_return(number):
        return "would wait for ever"
    if pair.coming[number] and not pair.ends[number].closed:
        pair.would_return(number)
    return pair.ends[number].poll(*args)


def leave_block(pair, number):
    with pair.ends[number] as entered:
        assert entered is pair.ends[number]


def state(pair, number):
    end = pair.ends[number]
    return end.closed, end.readable, end.writable


STEPS = {
    "send": send,
    "receive": receive,
    "send bytes": send_bytes,
    "receive bytes": receive_bytes,
    "receive into": receive_into,
    "poll": poll,
    "close": lambda pair, number: pair.ends[number].close(),
    "leave a block": leave_block,
    "state": state,
    "fileno": lambda pair, number: type(pair.ends[number].fileno()),
}
