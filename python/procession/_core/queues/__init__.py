"""Behind `Queue`: its two ends, the hook for failed serialising, and waiting for several objects."""
