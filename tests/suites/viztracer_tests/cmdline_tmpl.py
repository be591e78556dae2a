"""The base class of those of viztracer's tests that run a program."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .base_tmpl import BaseTmpl

SCRIPT = """
def fib(n):
    return 1 if n < 2 else fib(n - 1) + fib(n - 2)

fib(5)
"""
LIMIT = 60
# Before a program gets a signal that a test sends without saying when.
SECONDS_BEFORE_SIGNAL = 2
# A program says that it is ready a moment before it is.
SECONDS_AFTER_WORD = 0.5


class CmdlineTmpl(BaseTmpl):
    """Runs a program, and looks at the traces it leaves."""

    def build_script(self, script: str, name: str = "cmdline_test.py") -> None:
        Path(name).write_text(textwrap.dedent(script))

    def cleanup(
        self, output_file: str | list[str] | None = "result.json", script_name: str = "cmdline_test.py"
    ) -> None:
        """Remove what a program was and what it left."""
        for path in (script_name, *_listed(output_file)):
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                Path(path).unlink(missing_ok=True)

    def template(
        self,
        cmd_list: list[str],
        expected_output_file: str | list[str] | None = "result.json",
        success: bool = True,
        script: str | None = SCRIPT,
        script_name: str = "cmdline_test.py",
        expected_entries: int | None = None,
        expected_stdout: str | None = None,
        expected_stderr: str | None = None,
        cleanup: bool = True,
        check_func: Callable[[dict[str, Any]], object] | None = None,
        concurrency: str | None = None,
        send_sig: Any = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program and check its exit, what it printed and the traces it wrote."""
        if script:
            self.build_script(script, script_name)
        result = _run(cmd_list, send_sig)
        self.assertEqual(result.returncode == 0, success, result)
        if success:
            self._check_output(expected_output_file, expected_entries, check_func)
            for expected, printed in ((expected_stdout, result.stdout), (expected_stderr, result.stderr)):
                if expected is not None:
                    self.assertRegex(printed.decode(), expected)
        if cleanup:
            self.cleanup(expected_output_file, script_name)
        return result

    def _check_output(
        self,
        files: str | list[str] | None,
        entries: int | None,
        check: Callable[[dict[str, Any]], object] | None,
    ) -> None:
        for path in _listed(files):
            self.assertFileExists(path)
            if entries or check:
                trace = json.loads(Path(path).read_text())
                if entries:
                    self.assertEventNumber(trace, entries)
                if check:
                    check(trace)


def _listed(files: str | list[str] | None) -> list[str]:
    return [files] if isinstance(files, str) else files or []


def _run(command: list[str], signal: Any) -> subprocess.CompletedProcess[bytes]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            if signal is not None:
                number, when = signal if isinstance(signal, tuple) else (signal, SECONDS_BEFORE_SIGNAL)
                _wait(process, when)
                process.send_signal(number)
            stdout, stderr = process.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _wait(process: subprocess.Popen[bytes], when: str | float) -> None:
    """For a time, or until the process says a word or ends without."""
    if isinstance(when, str):
        assert process.stdout is not None
        any(when in line.decode() for line in process.stdout)
        when = SECONDS_AFTER_WORD
    time.sleep(when)
