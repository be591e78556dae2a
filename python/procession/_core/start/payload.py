"""What a process that is not forked from its parent needs, pickled into an anonymous file.

A file and not a pipe: the parent never waits for the child to read, and a child that dies early shows in its
exit status and not as a broken pipe in the parent's `start`.
"""

from __future__ import annotations

import os

from .._typing import IO, Any
from ..private_names import register_private_methods
from ..stdlib import context, process
from ..system.fd import anonymous_file
from .main_program import preparation_data, prepare

__all__ = ["pack", "unpack"]


def pack(process_obj: Any, popen: Any) -> IO[bytes]:
    """Pickle what the child of `popen` needs into a file, which the caller closes."""
    register_private_methods()
    outer = context.get_spawning_popen()
    try:
        file: IO[bytes] = anonymous_file("procession-start")
        try:
            preparation = preparation_data(process_obj._name)
            context.set_spawning_popen(popen)
            try:
                context.reduction.dump(preparation, file)
                context.reduction.dump(process_obj, file)
            finally:
                context.set_spawning_popen(outer)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file
    except BaseException as error:
        _explain_failed_pickling(error, process_obj)
        raise


def unpack(fd: int) -> Any:
    """In the child: apply the preparation data, and return the process object to run."""
    with os.fdopen(fd, "rb") as file:
        current: Any = process.current_process()
        current._inheriting = True
        try:
            prepare(context.reduction.pickle.load(file))
            return context.reduction.pickle.load(file)
        except (AttributeError, ImportError) as error:
            error.add_note(
                "The new process could not load what it is to run. That must be importable there: "
                'from a module, or from the main script, above its `if __name__ == "__main__":`.'
            )
            raise
        finally:
            del current._inheriting


def _explain_failed_pickling(error: BaseException, process_obj: Any) -> None:
    if isinstance(error, (AttributeError, TypeError, context.reduction.pickle.PicklingError)):
        error.add_note(
            f"{process_obj.name} could not be started: its target and arguments are pickled for the new "
            "process. Use functions of a module and picklable arguments, or the fork start method."
        )
