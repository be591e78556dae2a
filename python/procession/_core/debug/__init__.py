"""Reports for a person: what processes hold and wait for, what never ends, how much memory is in use."""
