"""For tests and examples: an OpenAI server that needs no key and no network, and a clock and ids that a test controls.

Needs the extra `testing`: `pip install 'openai-tracer[testing]'`. `python -m tracer.testing` runs the server in the
foreground; `tracer.testing.pytest_plugin` has fixtures.
"""

from tracer.testing import reply
from tracer.testing._clock import FakeClock, SequentialIds
from tracer.testing._isolation import isolated
from tracer.testing._script import RecordedRequest
from tracer.testing._server import FakeOpenAI
from tracer.testing._websocket import FakeWebSockets
from tracer.testing._websocket_connection import FakeConnection
from tracer.testing.reply import Reply

__all__ = [
    "FakeClock",
    "FakeConnection",
    "FakeOpenAI",
    "FakeWebSockets",
    "RecordedRequest",
    "Reply",
    "SequentialIds",
    "isolated",
    "reply",
]
