"""``python -m tests.moving.serve_openai PORT``: the fake OpenAI server, for programs in other environments."""

import sys
import threading

from tracer.testing import FakeOpenAI

with FakeOpenAI(port=int(sys.argv[1])):
    threading.Event().wait()
