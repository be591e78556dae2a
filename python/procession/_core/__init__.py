"""What the package needs inside and shows nobody: helpers shared by the modules that mirror the stdlib's."""

__all__: list[str] = []
