"""What the integration was told."""

from __future__ import annotations

import msgspec

__all__ = ["Options"]


class Options(msgspec.Struct, frozen=True):
    """The part of `tracer.openai.autolog`'s arguments that concerns the Agents SDK.

    Attributes:
        capture_content: False keeps structure and times but no text. None: as the settings say.
        replace_exporter: Take away the SDK's own processor, which posts traces to OpenAI.
    """

    capture_content: bool | None = None
    replace_exporter: bool = True
