"""A real tracking server in a thread of the test, over loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import uvicorn

from tracer.server._http import Protocol
from tracer.server.tokens import Access
from tracer.server.tracking import create_tracking_server


class TrackingServer:
    """Serves a store from `__enter__` to `__exit__`."""

    def __init__(self, uri: str, access: Access | None = None, *, port: int = 0, **options: Any) -> None:
        self.app = create_tracking_server(uri, access=access, **options)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, loop="asyncio", http=Protocol, ws="none", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)

    def __enter__(self) -> TrackingServer:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.002)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as SIGTERM does, and wait for it."""
        self._server.should_exit = True
        self._thread.join(20)
        with contextlib.suppress(OSError):
            self._listener.close()
