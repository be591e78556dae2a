"""How children start: the start methods, and the state that a child begins with."""
