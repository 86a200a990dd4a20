"""How long what an agent says may be. The server decodes nothing beyond it: such a frame ends its
link. Agents cut what other programs tell them (`cut`) before they pass it on.
"""

from typing import Annotated, Final

from msgspec import Meta

SENTENCE_CHARACTERS: Final = 2000
LARGEST: Final = 2**62

Id = Annotated[str, Meta(max_length=64)]
"""Of haechi: also a boot, a queue, a machine."""
Name = Annotated[str, Meta(max_length=255)]
"""Of a host, a platform, an address, a codec, an image, a release."""
Sentence = Annotated[str, Meta(max_length=SENTENCE_CHARACTERS)]
Number = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
"""Fits every store."""


def cut(text: str) -> str:
    return text[:SENTENCE_CHARACTERS]
