"""A separate program for a case: `program.py PACKAGE METHOD NAME` calls a function of `cases.tree`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ["FAULTS_PACKAGE"], os.environ["FAULTS_METHOD"] = sys.argv[1:3]
    from faults.cases import tree

    getattr(tree, sys.argv[3])()
