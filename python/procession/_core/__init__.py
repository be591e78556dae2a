"""The private part of the package. It imports none of the public modules, which are fronts over it.

A folder holds the inside of one public module, or one task: see each folder's first line. `fallback` replaces
the public modules where the engine does not run.
"""

__all__: list[str] = []
