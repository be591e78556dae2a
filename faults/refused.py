"""Run a program that may not make one system call.

python faults/refused.py CALL ERROR PROGRAM ARGUMENTS...
"""

import errno
import os
import sys

# Run by its path, from any folder.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("FAULTS_PACKAGE", "multiprocessing")
os.environ.setdefault("FAULTS_METHOD", "fork")

from faults.cases.limits import refuse

if __name__ == "__main__":
    _, call, error, *command = sys.argv
    refuse(call, getattr(errno, error))
    os.execv(command[0], command)
