"""The runners of CPython's tests, of the libraries' suites and of the faults: a sample, and their reports."""
