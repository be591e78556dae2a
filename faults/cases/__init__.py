"""The faults, by what they happen to. Each is a function that ends when the program survived as it should."""
