"""The cases, by what the fault happens to. Each is a function that returns if the program survived."""
