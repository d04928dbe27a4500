"""``python -m tracer``: the command line, see `tracer.cli`."""

from tracer.cli import main

if __name__ == "__main__":
    main()
