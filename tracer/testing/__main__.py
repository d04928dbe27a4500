"""Run the fake OpenAI server in the foreground: ``python -m tracer.testing --port 8080``."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Sequence

from tracer.testing._server import FakeOpenAI


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; the first line printed is the base URL."""
    parser = argparse.ArgumentParser(prog="python -m tracer.testing", description="A fake OpenAI server.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="the port; 0 takes a free one (default: %(default)s)")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with FakeOpenAI(host=options.host, port=options.port, max_recorded=0) as server:
        print(server.base_url, flush=True)  # noqa: T201  # a command's output
        with contextlib.suppress(KeyboardInterrupt):
            stopped.wait()


if __name__ == "__main__":
    main()
