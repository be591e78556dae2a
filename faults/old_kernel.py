"""Run a program as on Linux 5.4: all later system calls fail with ENOSYS.

python faults/old_kernel.py PROGRAM ARGUMENTS...
"""

import errno
import os
import sys

# Run by its path, from any folder.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("FAULTS_PACKAGE", "procession")
os.environ.setdefault("FAULTS_METHOD", "fork")

from faults.cases.limits import LATER, refuse

if __name__ == "__main__":
    refuse(LATER, errno.ENOSYS)
    os.execv(sys.argv[1], sys.argv[1:])
