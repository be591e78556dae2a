"""Cases for django's test runner, each in whichever process it gets."""

from __future__ import annotations

import proof
from django.contrib.auth.models import Group
from django.test import TestCase


class Cases:
    """Each class is one piece of work for the runner's pool."""

    def test_runs_in_a_process_of_the_package(self):
        proof.check([proof.home()])

    def test_has_a_database_of_its_own(self):
        Group.objects.create(name="one")
        self.assertEqual(Group.objects.get().name, "one")


class FirstTest(Cases, TestCase):
    pass


class SecondTest(Cases, TestCase):
    pass


class ThirdTest(Cases, TestCase):
    pass


class FourthTest(Cases, TestCase):
    def test_fails(self):
        self.fail("on purpose")
