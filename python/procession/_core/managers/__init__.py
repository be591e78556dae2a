"""Managers: dicts and lists in shared memory, the server's locks, and the types of proxies."""
