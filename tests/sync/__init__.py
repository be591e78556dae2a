"""Locks, conditions, semaphores, events and barriers between processes."""
