"""django's parallel test runner."""

from __future__ import annotations

import pytest

from harness import needs


@needs("django")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_django_runs_its_tests_in_parallel(run_program, method):
    """`manage.py test --parallel 2` runs every case in the package's processes and reports the failure."""
    command = ("django_manage.py", "test", "django_cases", "--parallel", "2")
    output = run_program(*command, mode="launcher", method=method, exit_code=1, timeout=120)
    assert "Found 9 test(s)" in output
    assert "AssertionError: on purpose" in output
    assert "FAILED (failures=1)" in output
