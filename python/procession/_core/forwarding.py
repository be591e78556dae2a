"""Modules that add to a stdlib module without copying its state.

Process-wide state (`spawn._python_exe`, `managers.listener_client` ...) must exist once a process, and
other libraries patch it under either name. A forwarding module owns only the names it defines itself: every
other name of the stdlib's module is read, written and deleted there, at the moment of use.
"""

from __future__ import annotations

import sys
from types import ModuleType

__all__ = ["forward_other_names"]


def forward_other_names(module_name: str, target: ModuleType) -> None:
    """Turn the module, once all its own names are defined, into a forwarding one."""
    own = sys.modules.get(module_name)
    if own is None:
        # `runpy` runs its code elsewhere, and nobody will import it.
        return
    others = [name for name in vars(target) if name not in vars(own) and not name.startswith("__")]
    own.__class__ = type(
        "ForwardingModule", (ModuleType,), {name: _forwarded(target, name) for name in others}
    )


def _forwarded(target: ModuleType, name: str) -> property:
    # Properties, since tools that patch and restore attributes ask whether there is one on the type.
    return property(
        lambda _: getattr(target, name),
        lambda _, value: setattr(target, name, value),
        lambda _: delattr(target, name),
    )
