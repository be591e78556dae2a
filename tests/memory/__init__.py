"""Values, arrays, named shared memory, large data, and memory given back."""
