"""Spans as user code holds them while they run, and the code that runs on the user's thread."""
