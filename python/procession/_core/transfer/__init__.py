"""Engine objects and descriptors on their way to another process."""
