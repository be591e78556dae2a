"""Worker pools of processes and threads."""
