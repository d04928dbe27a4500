"""The process under us: forks, children that skip atexit, threads where greenlets have taken their place."""
