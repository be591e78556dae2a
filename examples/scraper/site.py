"""A site to scrape on this machine: 200 pages, some missing, some slow, and one that never answers.

It runs in a process of its own, so that it takes no time from the one that is measured.
"""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import procession as multiprocessing
from scraper import interrupts
from scraper.outcome import Kind

__all__ = ["EXPECTED", "PAGES", "addresses_of", "running_site"]

PAGES = 200
HANGING_PAGE = 11
LONGEST_HANG = 60.0
USUAL_DELAY = 0.01
SLOW_DELAY = 0.25
SECONDS_TO_START = 60.0


def is_missing(page: int) -> bool:
    """One page in twenty is not there."""
    return page % 20 == 7


def is_slow(page: int) -> bool:
    """One page in ten takes its time."""
    return page % 10 == 3


def kind_of(page: int) -> Kind:
    """What a scraper should make of the page."""
    if page == HANGING_PAGE:
        return Kind.TIMED_OUT
    return Kind.NOT_FOUND if is_missing(page) else Kind.OK


EXPECTED = Counter(kind_of(page) for page in range(PAGES))


def addresses_of(port: int) -> list[str]:
    """The addresses of all pages."""
    return [f"http://127.0.0.1:{port}/page/{page}" for page in range(PAGES)]


@contextmanager
def running_site(start_method: str | None) -> Iterator[int]:
    """The port of a site that runs for as long as the block."""
    context: Any = multiprocessing.get_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(sender,), name="site", daemon=True)
    try:
        with interrupts.put_off():
            process.start()
        sender.close()
        if not receiver.poll(SECONDS_TO_START):
            raise TimeoutError("the local site did not start")
        yield receiver.recv()
    finally:
        receiver.close()
        if process.pid is not None:
            process.terminate()
            process.join()


def serve(sender: Any) -> None:
    """Serve until terminated; the port goes to `sender`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _Server(("127.0.0.1", 0), _Pages) as server:
        sender.send(server.server_address[1])
        sender.close()
        server.serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of a page is not worth a traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave as one packet; two would each wait for the other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        page = _page_of(self.path)
        if page is None or is_missing(page):
            self._answer(404, "<h1>There is no such page</h1>\n")
        elif page == HANGING_PAGE:
            threading.Event().wait(LONGEST_HANG)
            self.close_connection = True
        else:
            time.sleep(SLOW_DELAY if is_slow(page) else USUAL_DELAY)
            self._answer(200, f"<h1>Page {page}</h1>\n" + f"<p>{'words ' * (page + 1)}</p>\n" * 20)

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The scraper's report is log enough."""


def _page_of(path: str) -> int | None:
    name = path.removeprefix("/page/")
    return int(name) if name.isdecimal() and int(name) < PAGES else None
