"""Exists because the stdlib has this module; as there, it can be imported on Windows only."""

__all__: list[str] = []

raise ImportError("popen_spawn_win32 is for Windows; here processes are started by popen_spawn_posix")
