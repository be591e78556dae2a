"""iceoryx2's Python binding: publishers and subscribers of fixed types. Its receivers never sleep."""

import ctypes
import itertools
import multiprocessing
import os
from types import SimpleNamespace

import iceoryx2 as iox2

FORK = multiprocessing.get_context("fork")
STOP = -1
KIB = 1024

names = itertools.count()


class End:
    """One end of a pair of services, opened by the process that uses it first."""

    def __init__(self, out, back, payload):
        self._out, self._back, self._payload, self._owner = out, back, payload, None

    def _open(self):
        if self._owner == os.getpid():
            return
        self._owner = os.getpid()
        iox2.set_log_level(iox2.LogLevel.Error)
        self._node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        self._publisher = self._publisher_of(self._service(self._out))
        self._subscriber = self._service(self._back).subscriber_builder().create()
        # A message published before the other side subscribed is lost.
        while not self._service(self._out).dynamic_config.number_of_subscribers:
            pass

    def _service(self, name):
        builder = self._node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(self._payload)
        return builder.enable_safe_overflow(False).subscriber_max_buffer_size(64).open_or_create()

    def _publisher_of(self, service):
        builder = service.publisher_builder()
        return builder.backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered).create()

    def send(self, item):
        self._open()
        number = ctypes.c_int64(STOP if item is None else item)
        self._publisher.loan_uninit().write_payload(number).send()

    def recv(self):
        self._open()
        while (sample := self._subscriber.receive()) is None:
            pass
        number = sample.payload().contents.value
        return None if number == STOP else number

    def close(self):
        pass


class BytesEnd(End):
    def _publisher_of(self, service):
        builder = service.publisher_builder().initial_max_slice_len(KIB)
        return builder.backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered).create()

    def send_bytes(self, data):
        self._open()
        sample = self._publisher.loan_slice_uninit(len(data))
        ctypes.memmove(sample.payload_ptr, data, len(data))
        sample.assume_init().send()

    def recv_bytes(self):
        self._open()
        while (sample := self._subscriber.receive()) is None:
            pass
        return ctypes.string_at(sample.payload_ptr, KIB)


def context(end, payload):
    def pipe(duplex=True):
        out, back = (f"bench/{os.getpid()}/{next(names)}" for _ in range(2))
        return end(out, back, payload), end(back, out, payload)

    return SimpleNamespace(Pipe=pipe, Process=FORK.Process)


CONTEXTS = {
    "iceoryx2": {
        "pipe.ping_pong": lambda: context(End, ctypes.c_int64),
        "pipe.stream_bytes": lambda: context(BytesEnd, iox2.Slice[ctypes.c_uint8]),
    }
}
