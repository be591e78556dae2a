"""An interpreter that a Rust program started: it calls one function and reports the result.

The other side is the module `python` of the crate `procession`. The Rust program has no Python process
objects, so this interpreter is the main process of its part of the process tree.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches

from procession import _native

from .._typing import Any, NoReturn
from ..stdlib import process
from . import common_values

__all__ = ["main"]


class _Refused(Exception):
    """The function cannot be called."""


def main(error_fd: int, handshake: str) -> NoReturn:
    """Join the process tree, run the request that waits in the queue, put the response and exit."""
    try:
        queue = _enter(error_fd, handshake)
    except RuntimeError:
        # The engine has told the parent.
        sys.exit(1)
    request = queue.get()
    current: Any = process.current_process()
    current._name = request["name"]
    response = _response(request)
    message = common_values.plain(response)
    assert message is not None, "text and bytes are plain"
    queue.put_bytes(message)
    sys.exit("returned" not in response)


def _enter(error_fd: int, handshake: str) -> _native.Queue[Any]:
    tag = _native.answer_handshake(handshake)
    if tag is None:
        text = (
            f"the package procession of {sys.executable} does not understand how it was started; "
            "use one version of Procession in all processes of a tree"
        )
        os.write(error_fd, text.encode())
        sys.exit(1)
    queue: _native.Queue[Any] = _native.Queue.__new__(_native.Queue)
    queue._adopt(bytes.fromhex(tag))
    return queue


def _response(request: dict[str, Any]) -> dict[str, Any]:
    module, name = request["module"], request["function"]
    try:
        args = common_values.open_shared(_native.loads(request["args"]))
        result = _call(_function(module, name), args)
    except _Refused as refusal:
        return {"refused": _printable(str(refusal))}
    except SystemExit:
        raise
    except BaseException as error:
        return {"raised": _describe(error)}
    message = common_values.plain(result)
    if message is None:
        return {"refused": _printable(_not_plain(f"{module}.{name}", result))}
    return {"returned": message}


def _function(module_name: str, path: str) -> Callable[..., Any]:
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise _Refused(
            f"there is no module {error.name!r} in {sys.path}; start the process in its directory, or name "
            "that in PYTHONPATH"
        ) from None
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            near = get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise _Refused(f"there is no {path!r} in module {module_name!r}{hint}") from None
    if not callable(found):
        raise _Refused(f"{module_name}.{path} is a {type(found).__qualname__} and cannot be called")
    function: Callable[..., Any] = found
    return function


def _call(function: Callable[..., Any], args: Any) -> Any:
    if args is None:
        return function()
    if isinstance(args, dict):
        return function(**args)
    return function(*args)


def _not_plain(function: str, result: Any) -> str:
    what = common_values.what_is_not_plain(result)
    return f"{function} returned {what}, and Rust reads {common_values.PLAIN_DATA}"


def _describe(error: BaseException) -> dict[str, str]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:
        message = "<its text is not available: str() failed>"
    # Skip the frames of this module.
    where = error.__traceback__
    while where is not None and where.tb_frame.f_globals is globals():
        where = where.tb_next
    trace = "".join(traceback.format_exception(kind, error, where))
    return {"kind": name, "message": _printable(message), "traceback": _printable(trace)}


def _printable(text: str) -> str:
    """Return the text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="backslashreplace").decode()
