"""A child that begins as a copy of its parent.

What all kinds of children have in common (waiting, signals, reaping) is in `_core/start/child.py`.
"""

from __future__ import annotations

import os

from . import _native
from ._core._typing import Any
from ._core.start.bootstrap import reap_incomplete_child, release_forked_entry, run_forked_child
from ._core.start.child import UNKNOWN_STATUS as UNKNOWN_STATUS
from ._core.start.child import ChildProcess
from ._core.start.parent_death import dies_with_parent
from ._core.start.tracker import fork
from ._core.system import sentinels

__all__ = ["Popen"]


class Popen(ChildProcess):
    """One forked child."""

    method = "fork"

    def _launch(self, process_obj: Any) -> None:
        parent = _native.prepare_fork()
        pipe = None
        try:
            if dies_with_parent(process_obj):
                _native.prepare_lifeline()
            if parent is None:
                parent = sentinels.of_this_process()
                pipe = sentinels.pipe_if_needed()
            try:
                pid = fork()
            except OSError:
                release_forked_entry()
                raise
            if pid == 0:
                run_forked_child(process_obj, parent)
            self.proc_id, sentinel, error = _native.confirm_fork(pid)
            if error is not None:
                reap_incomplete_child(pid, self.proc_id)
                try:
                    raise error
                finally:
                    del error  # Its traceback refers to this frame.
        except BaseException:
            if pipe is not None:
                pipe.failed()
            raise
        finally:
            if parent is not None:
                os.close(parent)
        if sentinel is None:
            self._watch(pid, pipe)
        else:
            self.pid = pid
            self._own(sentinel)
