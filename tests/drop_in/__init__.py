"""The package in the place of `multiprocessing`: names, launcher, mixing, and systems without the engine."""
