"""Starting a process: what it inherits or is sent, its first and its last steps, the fork server."""
