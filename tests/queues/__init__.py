"""`Queue`, `JoinableQueue` and `SimpleQueue` between processes."""
