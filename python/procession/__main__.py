"""`python -m procession`: run an unmodified program with this package as its `multiprocessing`.

The arguments are those of `python` itself: a script, a directory or a zip file with a `__main__.py`, `-m` and
a module, `-c` and a program text, or `-` for the standard input. The program gets `sys.argv`, `sys.path` and
`__main__` as from `python`, and so does every process that it starts.
"""

from __future__ import annotations

import builtins
import io
import os
import pkgutil
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType

from procession import __version__
from procession._core._typing import Any
from procession._core.install import install
from procession._core.start.main_module import LaunchedMain

__all__: list[str] = []

# Names that `__main__` has before Python 3.15.
_CACHED: dict[str, Any] = {"__cached__": None} if sys.version_info < (3, 15) else {}

USAGE = """\
usage: python -m procession --version
       python -m procession [-m module | -c program | script | directory | zip file | -] [argument ...]

Runs a program with `multiprocessing`, and all its submodules, meaning `procession`, in the program and in
every process that it starts. PROCESSION_INSTALL=1 in the environment does the same for any Python program.
"""


def main(arguments: list[str]) -> None:
    """Run the program that the command line names, in this process."""
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(USAGE, end="")
            raise SystemExit(0 if arguments else 2)
        case ["-V" | "--version"]:
            print(f"procession {__version__}")
        case ["-m"] | ["-c"]:
            raise SystemExit(f"argument expected for the {arguments[0]} option\n{USAGE}")
        case ["-m", module, *rest]:
            become([module, *rest])
            runpy._run_module_as_main(module)  # type: ignore[attr-defined]
        case ["-c", program, *rest]:
            run_text(program, "<string>", ["-c", *rest])
        case ["-", *rest]:
            run_text(sys.stdin.read(), "<stdin>", arguments, __file__="<stdin>", **_CACHED)
        case [option, *_] if option.startswith("-"):
            raise SystemExit(f"unknown option {option}; options of python go before -m procession\n{USAGE}")
        case [path, *_] if pkgutil.get_importer(path) is not None:
            become(arguments, first_on_path=os.path.abspath(path), even_if_safe=True)
            runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        case [path, *_]:
            run_script(path, arguments)


def become(
    arguments: list[str], first_on_path: str | None = None, *, even_if_safe: bool = False
) -> dict[str, Any]:
    """Prepare this process for the program; return the namespace of its new, empty `__main__`."""
    install(force=True)
    sys.argv[:] = arguments
    if first_on_path is not None:
        # `python -m` has put the working directory there, except with -P.
        if not sys.flags.safe_path:
            sys.path[0] = first_on_path
        elif even_if_safe:
            sys.path.insert(0, first_on_path)
    module = LaunchedMain("__main__")
    # Children use the second name in what they pickle.
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    # As in a real main module, the module and not its namespace.
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    return vars(module)


def run_text(text: str, name: str, arguments: list[str], **more: Any) -> None:
    """Run a program text that is in no file."""
    namespace = become(arguments, first_on_path="")
    namespace.update(__loader__=BuiltinImporter, **more)
    exec(compile(text, name, "exec", dont_inherit=True), namespace)


def run_script(path: str, arguments: list[str]) -> None:
    """Run a file, source or compiled."""
    try:
        code, loader = load(path)
    except OSError as error:
        raise SystemExit(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: {error}") from None
    namespace = become(arguments, first_on_path=os.path.dirname(os.path.realpath(path)))
    namespace.update(__file__=os.path.abspath(path), __loader__=loader, __package__=None, **_CACHED)
    exec(code, namespace)


def load(path: str) -> tuple[CodeType, SourceFileLoader | SourcelessFileLoader]:
    """Return the code of a file, and the loader for `__main__`."""
    with io.open_code(os.fspath(os.path.abspath(path))) as file:
        compiled = pkgutil.read_code(file)
        if compiled is not None:
            return compiled, SourcelessFileLoader("__main__", path)
        file.seek(0)
        source = file.read()
    return compile(source, path, "exec", dont_inherit=True), SourceFileLoader("__main__", path)


if __name__ == "__main__":
    main(sys.argv[1:])
