"""The standard library's `multiprocessing` under this package's names, where the engine does not run.

`choice` decides, `substitutes` says so and puts the other modules in place. These add to the standard
library's of the same name what this package's have more. What cannot be had without the engine raises a
sentence that says so.
"""
