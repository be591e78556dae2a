"""Reading addresses, and saying what is wrong with one before the network is asked for it."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["complaint", "read_addresses", "without_repeats"]

_COMMENT = re.compile(r"(^|\s)#.*")
_UNWANTED = re.compile(r"[\s\x00-\x1f\x7f]")


def read_addresses(lines: Iterable[str]) -> list[str]:
    """One address a line; blank lines and comments don't count.

    A comment starts with a `#` at the start of a line or after a space: elsewhere `#` is a fragment.
    """
    stripped = (_COMMENT.sub("", line).strip() for line in lines)
    return [address for address in stripped if address]


def without_repeats(addresses: Iterable[str]) -> list[str]:
    """The addresses in their order, each once."""
    return list(dict.fromkeys(addresses))


def complaint(address: str) -> str | None:
    """What is wrong with the address, or None when it is worth a request."""
    if _UNWANTED.search(address):
        return "contains a space or a control character"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        return str(error)
    if "://" not in address:
        return "no scheme: put http:// or https:// in front"
    if parts.scheme not in ("http", "https"):
        return f"scheme {parts.scheme!r} is neither http nor https"
    if not parts.hostname:
        return "no host"
    if port == 0:
        return "port 0 can't be connected to"
    return None
