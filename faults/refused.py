"""Runs a program where one system call is refused.

python faults/refused.py CALL ERROR PROGRAM ARGUMENTS...
"""

import errno
import os
import sys

os.environ.setdefault("FAULTS_PACKAGE", "multiprocessing")
os.environ.setdefault("FAULTS_METHOD", "fork")

from cases.limits import refuse

if __name__ == "__main__":
    _, call, error, *command = sys.argv
    refuse(call, getattr(errno, error))
    os.execv(command[0], command)
