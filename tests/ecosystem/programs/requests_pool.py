"""requests: a Pool fetches from a server in a thread of the program."""

from __future__ import annotations

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import proof
import requests


class Echo(BaseHTTPRequestHandler):
    """Answers with the path."""

    def do_GET(self):
        status = 404 if self.path == "/missing" else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_):
        pass


def fetch(port, path):
    response = requests.get(f"http://127.0.0.1:{port}/{path}", timeout=10)
    response.raise_for_status()
    return response.text


def answer(port):
    """A whole Response, which comes back by pickle."""
    return requests.get(f"http://127.0.0.1:{port}/whole", timeout=10)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        with proof.context().Pool(2) as pool:
            pages = pool.map(partial(fetch, port), range(20))
            assert pages == [f"/{n}" for n in range(20)]
            assert pool.apply(answer, (port,)).content == b"/whole"
            try:
                pool.apply(fetch, (port, "missing"))
            except requests.HTTPError as error:
                assert error.response.status_code == 404
            else:
                raise AssertionError("no error")
            proof.check(pool.map(proof.home, range(4)))
        server.shutdown()
    print("done")
