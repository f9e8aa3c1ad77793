"""Cuts values out of JSON that are nested so deep that decoders refuse the text as a whole.

Pure. Prompts and tool calls are never read, so the depth of one must not cost the spans around it.
"""

import re

MAX_DEPTH = 100  # as protobuf allows; the members of OTLP itself need less than 20
# A text without an end is one token too, as each quote in it would begin another search.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|([\[{]++)|([\]}]++)', re.DOTALL)


def cut_deep_values(body: bytes) -> bytes:
    """Return the text with null for each array and object that lies deeper than MAX_DEPTH."""
    text = body.decode("utf-8", "replace")
    pieces: list[str] = []
    depth = start = 0
    for token in _TOKEN.finditer(text):
        before = depth
        if token[1]:
            depth += len(token[1])
            if before <= MAX_DEPTH < depth:
                pieces += [text[start : token.start() + MAX_DEPTH - before], "null"]
                start = len(text)  # of a value without an end nothing follows
        elif token[2]:
            depth -= len(token[2])
            if depth <= MAX_DEPTH < before:
                start = token.start() + before - MAX_DEPTH
    return "".join([*pieces, text[start:]]).encode()
