"""The standard library's `multiprocessing` under this package's names, where the engine does not run.

`choice` decides; `substitutes` warns and replaces the modules. Each replacement adds to the stdlib's module
of its name what this package's has in addition. Features that need the engine raise an error that says so.
"""
