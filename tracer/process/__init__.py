"""The process that tracer runs in: forks, children that skip atexit, threads that greenlets have replaced."""
