"""Pipes, listeners and clients, and the objects that travel in their messages."""
