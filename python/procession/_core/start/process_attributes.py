"""The attributes that a process inherits from its parent: environment, limits, users and so on.

Children of the fork server start with the attributes that their client has *now*, not with those it had when
the server started. Attributes that a child can set itself are sent to it if they have changed. Others (a
session, a scheduling class, privileges that the server lacks) need a new server, which inherits them.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import NamedTuple

from procession import _native

from .._typing import Any
from ..system.fd import STANDARD_NUMBERS

__all__ = ["ProcessAttributes", "become_user", "apply_changes"]

_LIMITS = range(16)

# Compared as one string.
_PRIVILEGES = (b"\nCapInh:", b"\nSeccomp:")

# The capabilities to set groups (6) and users (7).
_SET_USERS = 1 << 6 | 1 << 7


class ProcessAttributes(NamedTuple):
    """The attributes of a process at one moment."""

    environment: dict[bytes, bytes]
    umask: int
    niceness: int
    processors: set[int]
    limits: tuple[tuple[int, int], ...]
    blocked: set[int]
    ignored: int
    users: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, ...]]
    standard: tuple[tuple[int, ...] | None, ...]
    # A child cannot set those from here on.
    privileges: bytes
    session: tuple[int, int]
    namespaces: int
    scheduling: tuple[int, int]
    oom_score: bytes

    @classmethod
    def of_now(cls) -> ProcessAttributes:
        """Return those of the calling thread. The environment is not copied; see `snapshot`."""
        status = _read("/proc/thread-self/status")
        return cls(
            os.environ._data,  # type: ignore[attr-defined]
            _umask(status),
            os.getpriority(os.PRIO_PROCESS, 0),
            os.sched_getaffinity(0),
            tuple([resource.getrlimit(number) for number in _LIMITS]),
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            _ignored(status),
            (os.getresuid(), os.getresgid(), tuple(os.getgroups())),
            tuple([_native.identity_of(fd) for fd in STANDARD_NUMBERS]),
            _between(status, *_PRIVILEGES),
            (os.getpgid(0), os.getsid(0)),
            _native.namespace_id(),
            (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
            _read("/proc/self/oom_score_adj"),
        )

    def snapshot(self) -> ProcessAttributes:
        """Return a copy to compare with later."""
        return self._replace(environment=dict(self.environment))

    def needs_new_server(self, servers: ProcessAttributes) -> bool:
        """Return whether a child of a server with the attributes `servers` cannot get these."""
        if self is servers:
            return False
        if (self.session, self.scheduling) != (servers.session, servers.scheduling):
            return True
        # In another namespace, pids mean other processes, and children would be outside of this sandbox.
        if self.namespaces != servers.namespaces:
            return True
        # It is empty where a process that became another user may not read it.
        if self.oom_score != servers.oom_score and self.oom_score and servers.oom_score:
            return True
        if self.users != servers.users:
            # A server that may set any user can drop privileges; the lost capabilities follow from that.
            return not servers._may_become_anybody()
        if self.privileges != servers.privileges or self.niceness < servers.niceness:
            return True
        pairs = zip(self.limits, servers.limits, strict=True)
        return self.limits != servers.limits and any(_exceeds(now[1], then[1]) for now, then in pairs)

    def _may_become_anybody(self) -> bool:
        if effective := _between(self.privileges, b"\nCapEff:", b"\nCapBnd:"):
            return int(effective[8:], 16) & _SET_USERS == _SET_USERS
        return self.users[0][1] == 0

    def changes_since(self, servers: ProcessAttributes) -> dict[str, Any]:
        """Return what a child of a server with the attributes `servers` has to change."""
        changes: dict[str, Any] = {}
        for name in self._fields[:-5]:
            now, then = getattr(self, name), getattr(servers, name)
            if now != then:
                changes[name] = now
        if "environment" in changes:
            changes["environment"] = _difference(self.environment, servers.environment)
        if "ignored" in changes:
            changes["ignored"] = self.ignored, servers.ignored
        if "limits" in changes:
            pairs = zip(self.limits, servers.limits, strict=True)
            changes["limits"] = {n: now for n, (now, then) in enumerate(pairs) if now != then}
        return changes


def apply_changes(changes: dict[str, Any], standard: list[int]) -> None:
    """In a child: apply the changes; `standard` are those of the three standard descriptors that are open."""
    for name, value in changes.items():
        if name == "standard":
            _set_standard(value, standard)
        elif name != "users":
            _SETTERS[name](value)


def become_user(changes: dict[str, Any]) -> None:
    """Apply the last change: the other user may be unable to read what the child has to import first."""
    if "users" in changes:
        user, group, groups = changes["users"]
        os.setgroups(groups)
        os.setresgid(*group)
        os.setresuid(*user)


def _set_environment(difference: tuple[dict[bytes, bytes], list[bytes]]) -> None:
    changed, gone = difference
    for name in gone:
        os.environb.pop(name, None)
    os.environb.update(changed)
    if b"TZ" in changed or b"TZ" in gone:
        time.tzset()


def _set_limits(limits: dict[int, tuple[int, int]]) -> None:
    for number, pair in limits.items():
        resource.setrlimit(number, pair)


def _set_ignored(masks: tuple[int, int]) -> None:
    now, then = masks
    for number in signal.valid_signals():
        bit = 1 << (number - 1)
        if (now ^ then) & bit:
            signal.signal(number, signal.SIG_IGN if now & bit else _default(number))


def _default(number: int) -> Any:
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def _set_standard(identities: tuple[Any, ...], given: list[int]) -> None:
    for number, identity in zip(STANDARD_NUMBERS, identities, strict=True):
        if identity is not None:
            os.dup2(fd := given.pop(0), number)
            os.close(fd)
        elif _native.identity_of(number) is not None:
            os.close(number)


_SETTERS: dict[str, Any] = {
    "environment": _set_environment,
    "umask": os.umask,
    "niceness": lambda niceness: os.setpriority(os.PRIO_PROCESS, 0, niceness),
    "processors": lambda processors: os.sched_setaffinity(0, processors),
    "limits": _set_limits,
    "blocked": lambda signals: signal.pthread_sigmask(signal.SIG_SETMASK, signals),
    "ignored": _set_ignored,
}


def _difference(now: dict[bytes, bytes], then: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
    changed = {name: value for name, value in now.items() if then.get(name) != value}
    return changed, [name for name in then if name not in now]


def _exceeds(limit: int, other: int) -> bool:
    if other == resource.RLIM_INFINITY:
        return False
    return limit == resource.RLIM_INFINITY or limit > other


def _read(path: str) -> bytes:
    """Read a file of the kernel; empty where there is no /proc."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def _between(text: bytes, begin: bytes, end: bytes) -> bytes:
    start = text.find(begin)
    stop = text.find(end, start)
    return text[start:stop] if 0 <= start < stop else b""


def _umask(status: bytes) -> int:
    if field := _between(status, b"\nUmask:", b"\nState:"):
        return int(field[7:], 8)
    # The umask can only be read by setting it: meanwhile, new files of other threads are private.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _ignored(status: bytes) -> int:
    """Return a bit for each ignored signal, the lowest for signal 1."""
    if field := _between(status, b"\nSigIgn:", b"\nSigCgt:"):
        return int(field[8:], 16)
    ignored = (n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN)
    return sum(1 << (number - 1) for number in ignored)
