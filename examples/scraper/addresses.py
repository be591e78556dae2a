"""Reading addresses, and saying what is wrong with one before the network is asked for it."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["problem", "hide_password", "hide_passwords_in", "read_addresses", "without_repeats"]

_COMMENT = re.compile(r"(^|\s)#.*")
_UNWANTED = re.compile(r"[\s\x00-\x1f\x7f]")
# In `//user:password@` the password may itself hold an `@`: the last one ends it.
_PASSWORD_IN_TEXT = re.compile(r"(?<=//)([^\s/?#:@]*):[^\s/?#]*@")
# An address that a person typed may also lack its scheme, or hold a space.
_PASSWORD = re.compile(r"^((?:[^/?#:@]*://)?[^/?#:@]*):[^/?#]*@")


def read_addresses(lines: Iterable[str]) -> list[str]:
    """One address a line; blank lines and comments don't count.

    A comment starts with a `#` at the start of a line or after a space: elsewhere `#` is a fragment.
    """
    stripped = (_COMMENT.sub("", line).strip() for line in lines)
    return [address for address in stripped if address]


def without_repeats(addresses: Iterable[str]) -> list[str]:
    """The addresses in their order, each once."""
    return list(dict.fromkeys(addresses))


def hide_password(address: str) -> str:
    """The address with `***` in the place of its password."""
    return _PASSWORD.sub(r"\1:***@", address)


def hide_passwords_in(text: str) -> str:
    """The text with `***` in the place of each password of an address in it."""
    return _PASSWORD_IN_TEXT.sub(r"\1:***@", text)


def problem(address: str) -> str | None:
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
