"""pyzmq over ipc: a pair of PAIR sockets for a pipe."""

import multiprocessing
import multiprocessing.util
import os
import pickle
import tempfile
from types import SimpleNamespace

import zmq

FORK = multiprocessing.get_context("fork")
FOLDER = tempfile.TemporaryDirectory(prefix="bench-zmq-")


class Socket:
    """A socket that is opened by the process that uses it first, and closed when all is sent."""

    numbers = iter(range(1_000_000))

    def __init__(self, address, binds):
        self._address, self._binds, self._owner = address, binds, None

    def of(self, kind):
        if self._owner != os.getpid():
            self._owner = os.getpid()
            context = zmq.Context()
            self._socket = context.socket(kind)
            (self._socket.bind if self._binds else self._socket.connect)(self._address)
            # A forked child skips the interpreter's own clean-up, and no child may be forked while threads of
            # an old context run.
            multiprocessing.util.Finalize(self, close, (context, self._socket), exitpriority=10)
        return self._socket


def close(context, socket):
    socket.close(linger=-1)
    context.term()


def fresh_address():
    return f"ipc://{FOLDER.name}/{os.getpid()}-{next(Socket.numbers)}"


class End:
    def __init__(self, address, binds):
        self._socket = Socket(address, binds)

    def send(self, item):
        self._socket.of(zmq.PAIR).send(pickle.dumps(item, 5))

    def recv(self):
        return pickle.loads(self._socket.of(zmq.PAIR).recv())

    def send_bytes(self, data):
        self._socket.of(zmq.PAIR).send(data)

    def recv_bytes(self):
        return self._socket.of(zmq.PAIR).recv()

    def close(self):
        pass


class ArrayEnd(End):
    """Arrays go beside their pickle, as pyzmq's manual has it, without a copy into the message."""

    def send(self, item):
        buffers = []
        head = pickle.dumps(item, 5, buffer_callback=buffers.append)
        self._socket.of(zmq.PAIR).send_multipart([head, *map(memoryview, buffers)], copy=False)

    def recv(self):
        head, *buffers = self._socket.of(zmq.PAIR).recv_multipart(copy=False)
        return pickle.loads(head.buffer, buffers=[frame.buffer for frame in buffers])


def context(end=End):
    def pipe(duplex=True):
        address = fresh_address()
        return end(address, True), end(address, False)

    return SimpleNamespace(Pipe=pipe, Process=FORK.Process)


SMALL = ("ping_pong", "ping_pong_asleep_1", "ping_pong_asleep_n", "stream_bytes")

CONTEXTS = {
    "pyzmq, ipc": {
        **{f"pipe.{name}": context for name in SMALL},
        "pipe.arrays": lambda: context(ArrayEnd),
    }
}
