"""`python -m procession`: run a program.

The command line is that of the package with the engine, which is that of `python` itself; `multiprocessing`
is the standard library's here.
"""

from __future__ import annotations

import builtins
import io
import os
import pkgutil
import runpy
import sys
from types import CodeType, ModuleType
from typing import Any

__all__: list[str] = []

USAGE = "usage: python -m procession [-m module | -c program | script | directory | zip file | -] ..."


def main(arguments: list[str]) -> None:
    """Become the program that the command line names."""
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(USAGE)
            raise SystemExit(0 if arguments else 2)
        case ["-m", module, *rest]:
            become([module, *rest])
            runpy._run_module_as_main(module)  # type: ignore[attr-defined]
        case ["-c", text, *rest]:
            exec(compiled(text, "<string>"), become(["-c", *rest], ""))
        case ["-", *_]:
            exec(compiled(sys.stdin.read(), "<stdin>"), become(arguments, "", "<stdin>"))
        case ["-m" | "-c" as option]:
            raise SystemExit(f"argument expected for the {option} option\n{USAGE}")
        case [option, *_] if option.startswith("-"):
            raise SystemExit(f"unknown option {option}; options of python go before -m procession\n{USAGE}")
        case [path, *_] if pkgutil.get_importer(path) is not None:
            become(arguments)
            place(os.path.abspath(path), even_if_safe=True)
            runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        case [path, *_]:
            code, folder = code_of(path), os.path.dirname(os.path.realpath(path))
            exec(code, become(arguments, folder, os.path.abspath(path)))


def become(arguments: list[str], first_on_path: str | None = None, file: str | None = None) -> dict[str, Any]:
    """Make the process that of the program; return the names of its new, empty `__main__`."""
    sys.argv[:] = arguments
    if first_on_path is not None:
        place(first_on_path)
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    if file is not None:
        vars(module).update(__file__=file, __cached__=None)
    return vars(module)


def place(first: str, *, even_if_safe: bool = False) -> None:
    """Put this first on the path, where `python -m` put the working directory unless it was told not to."""
    if not sys.flags.safe_path:
        sys.path[0] = first
    elif even_if_safe:
        sys.path.insert(0, first)


def code_of(path: str) -> CodeType:
    """The code of a file, source or compiled."""
    try:
        with io.open_code(os.path.abspath(path)) as file:
            code = pkgutil.read_code(file)  # type: ignore[attr-defined]
            if code is None:
                file.seek(0)
                code = compiled(file.read(), path)
            return code
    except OSError as error:
        raise SystemExit(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: {error}") from None


def compiled(text: str | bytes, name: str) -> CodeType:
    """The code of a program text."""
    return compile(text, name, "exec", dont_inherit=True)


if __name__ == "__main__":
    main(sys.argv[1:])
