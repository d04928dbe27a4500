"""A program for each library that `tests.beside.coverage` looks at.

A program says in its header what it needs (https://peps.python.org/pep-0723/), and in its docstring what is missing in
traces and what to do about it. It is written as the library's documentation shows it; `way` marks what is counted.
"""
