"""Behind `Pool` and `ThreadPool`: workers, open jobs, results, and the threads that serve them."""
