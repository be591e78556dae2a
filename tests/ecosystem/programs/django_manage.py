"""A django project of one file; `test --parallel 2` runs the cases of django_cases in processes."""

from __future__ import annotations

import proof
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    SECRET_KEY="tests",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    USE_TZ=True,
)

if __name__ == "__main__":
    import sys

    proof.set_method()
    execute_from_command_line(sys.argv)
