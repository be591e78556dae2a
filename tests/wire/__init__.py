"""The wire format of messages."""
