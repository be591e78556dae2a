"""The rows of the table, a file for each family."""

FAMILIES = ["queue", "pipe", "pool", "process", "lock", "value", "manager", "idle", "memory", "startup"]
