"""One address in, one `Outcome` out, whatever happens: what a worker of the pool does.

A worker keeps one `requests.Session` for all its pages, so connections are used again.
"""

import signal
import socket
import time
from dataclasses import dataclass, replace
from http import HTTPStatus

import requests
import urllib3

from scraper.outcome import Kind, Outcome

__all__ = ["RetryPolicy", "fetch", "prepare_worker"]

LONGEST_PAUSE = 5.0
MOST_REDIRECTS = 10
READ_SIZE = 64 * 1024

TEMPORARY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
TEMPORARY_FAILURE = frozenset({Kind.REFUSED, Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.BROKEN})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait for an answer, and how often to ask again."""

    timeout: float = 10.0
    retries: int = 2
    first_pause: float = 0.25

    def pause_after(self, attempt: int) -> float:
        """Seconds to wait after the given attempt (1, 2, ...) failed: each pause is twice the last."""
        return min(LONGEST_PAUSE, self.first_pause * 2 ** (attempt - 1))


@dataclass(slots=True)
class _Worker:
    session: requests.Session
    policy: RetryPolicy


_worker: _Worker | None = None


def prepare_worker(policy: RetryPolicy) -> None:
    """The pool's initializer: a session for all pages of this worker."""
    global _worker
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    session = requests.Session()
    session.max_redirects = MOST_REDIRECTS
    _worker = _Worker(session, policy)


def fetch(address: str) -> Outcome:
    """Ask for the address, and again after a pause while that may help."""
    if _worker is None:
        raise RuntimeError("fetch runs in a worker: prepare_worker first")
    policy = _worker.policy
    started = time.monotonic()
    attempt = 1
    outcome = _ask_once(_worker.session, address, policy.timeout)
    while _may_succeed_later(outcome) and attempt <= policy.retries:
        time.sleep(policy.pause_after(attempt))
        attempt += 1
        outcome = _ask_once(_worker.session, address, policy.timeout)
    return replace(outcome, attempts=attempt, seconds=time.monotonic() - started)


def _may_succeed_later(outcome: Outcome) -> bool:
    return outcome.kind in TEMPORARY_FAILURE or outcome.status in TEMPORARY_STATUS


def _ask_once(session: requests.Session, address: str, timeout: float) -> Outcome:
    try:
        with session.get(address, timeout=timeout, stream=True) as response:
            size = _read_all(response, time.monotonic() + timeout)
    except Exception as error:
        # A site can make requests raise more than its own errors: a redirect to http://[ is a ValueError.
        kind, detail = _explain(error, timeout)
        return Outcome(address, kind, detail=" ".join(detail.split()))
    return _answered(address, response.status_code, size)


def _read_all(response: requests.Response, deadline: float) -> int:
    """Count the bytes of the body without keeping them.

    `timeout` in requests bounds a silence, not a page: a site that drips would be read for ever.
    """
    size = 0
    while part := response.raw.read1(READ_SIZE):
        size += len(part)
        if time.monotonic() > deadline:
            raise requests.Timeout
    return size


def _answered(address: str, status: int, size: int) -> Outcome:
    if status < 400:
        return Outcome(address, Kind.OK, status, size=size)
    kind = Kind.NOT_FOUND if status == HTTPStatus.NOT_FOUND else Kind.BAD_STATUS
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    return Outcome(address, kind, status, detail=phrase, size=size)


def _explain(error: Exception, timeout: float) -> tuple[Kind, str]:
    if isinstance(error, requests.TooManyRedirects):
        return Kind.BAD_STATUS, f"more than {MOST_REDIRECTS} redirects"
    if isinstance(error, ValueError):
        return Kind.MALFORMED, str(error)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return Kind.TIMED_OUT, f"no answer within {timeout:g} s"
    cause = _first_cause(error)
    match cause:
        case ConnectionRefusedError():
            return Kind.REFUSED, "connection refused"
        case socket.gaierror():
            return Kind.UNREACHABLE, f"host not found: {cause.strerror}"
        case UnicodeError():
            return Kind.MALFORMED, str(cause)
        case TimeoutError():
            return Kind.TIMED_OUT, f"no answer within {timeout:g} s"
        case OSError(strerror=str(reason)):
            return Kind.BROKEN, reason
    return Kind.BROKEN, f"{type(cause).__name__}: {cause}"


def _first_cause(error: BaseException) -> BaseException:
    """The error all the others were raised from: requests and urllib3 wrap it several times."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error
