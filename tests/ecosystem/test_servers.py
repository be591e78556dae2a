"""Servers whose workers are processes, or use them; each answers a few requests and ends on SIGTERM."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest

from harness import Run, finish, needs, run, running


def free_port() -> int:
    """A port of the loopback device that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(server: Run, port: int) -> dict[str, object]:
    """The answer to one request, as soon as the server is up."""
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
                return json.load(response)
        except (urllib.error.URLError, ConnectionError):
            if server.process.poll() is not None or time.monotonic() > end:
                pytest.fail(server.output())
            time.sleep(0.05)


@needs("uvicorn")
def test_uvicorn_serves_from_two_workers(tmp_path):
    """The listening socket reaches the package's processes, and SIGTERM ends them all."""
    port = free_port()
    command = ("-m", "uvicorn", "asgi_app:app", "--workers", "2", "--port", str(port))
    with running(command, mode="launcher", cwd=tmp_path) as server:
        answers = [ask(server, port) for _ in range(6)]
        assert {answer["home"] for answer in answers} == {"procession/procession"}
        assert server.process.pid not in {answer["pid"] for answer in answers}
        server.process.send_signal(signal.SIGTERM)
        assert "Stopping parent process" in finish(server, 30)


@needs("gunicorn")
def test_gunicorn_workers_answer_with_pools_of_their_own(tmp_path):
    """A worker that gunicorn forked makes pools, and SIGTERM ends everything."""
    port = free_port()
    command = ("-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "wsgi_app:app")
    with running(command, mode="launcher", cwd=tmp_path) as server:
        for _ in range(4):
            answer = ask(server, port)
            assert (answer["home"], answer["map"]) == ("procession/procession", [1, 2])
            assert answer["pid"] != server.process.pid
        server.process.send_signal(signal.SIGTERM)
        finish(server, 30)


@needs("huey")
def test_huey_runs_tasks_in_worker_processes(tmp_path):
    """A consumer of two worker processes does the tasks of another program, and ends on SIGINT."""
    command = ("-m", "huey.bin.huey_consumer", "huey_tasks.huey", "-k", "process", "-w", "2", "-d", "0.05")
    with running(command, mode="launcher", cwd=tmp_path) as consumer:
        assert run(("huey_tasks.py",), mode="launcher", cwd=tmp_path).endswith("done\n")
        consumer.process.send_signal(signal.SIGINT)
        finish(consumer, 30)
