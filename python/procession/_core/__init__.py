"""The private part of the package. It imports none of the public modules, which are fronts over it.

A folder holds the inside of one public module, or one task: see each folder's first line. `fallback` replaces
the public modules where the engine does not run.
"""

__all__: list[str] = []

# What `typing.TYPE_CHECKING` is. Editors look into both branches of an `if`, because it is not written as
# False, and because it is not in `_typing`: they take that for the interpreter's own module of this name.
TYPE_CHECKING = bool()  # noqa: UP018
