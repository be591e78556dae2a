"""Programs for type checkers, and tests of what checkers and editors see."""
