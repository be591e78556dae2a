"""What tests of several topics use."""
