"""Classes of newer Pythons' `multiprocessing`, for the Pythons before."""
