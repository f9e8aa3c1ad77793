"""A provider on a loopback port that speaks the APIs of OpenAI and Anthropic.

The model of a request says how it ends: `good`, `err400` and the like, `cut` (the stream breaks),
`slow` (a stream of seconds, which a client can leave) or `again` (429 once, then good). Claude's
models are `claude`, `claude-err400` and so on.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback_http import serving

FIRST_BYTE_S = 0.15
SLOW_CHUNKS, SLOW_CHUNK_S = 60, 0.1
OUTCOMES = {400: "client_error", 429: "rate_limited", 500: "server_error"}
OUTCOMES |= dict.fromkeys((503, 529), "overloaded")
ERROR_TYPES = {400: "invalid_request_error", 429: "rate_limit_error", 500: "api_error"}
USAGE = {
    "prompt_tokens": 2048,
    "completion_tokens": 120,
    "total_tokens": 2168,
    "prompt_tokens_details": {"cached_tokens": 1536},
    "completion_tokens_details": {"reasoning_tokens": 64},
}
ANTHROPIC_USAGE = {
    "input_tokens": 12,
    "cache_read_input_tokens": 1800,
    "cache_creation_input_tokens": 300,
    "output_tokens": 40,
}


class StubProvider:
    """The address, and what was served."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ended: list[tuple[str, str]] = []  # model and outcome, in the order of the ends


@contextmanager
def stub_provider() -> Iterator[StubProvider]:
    """Yield a provider that runs until the end."""

    class Handler(_Handler):
        pass

    with serving(Handler) as url:
        Handler.provider = StubProvider(url)
        yield Handler.provider


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: StubProvider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)
        model = asked["model"]
        way = model.removeprefix("claude-")
        again = way == "again" and (model, OUTCOMES[429]) not in self.provider.ended
        is_claude = self.path == "/v1/messages"
        if way.startswith("err") or again:
            status = 429 if again else int(way[3:])
            kind = ERROR_TYPES.get(status, "overloaded_error") if is_claude else "t"
            error = {"type": "error", "error": {"message": "no", "type": kind, "code": None}}
            self.provider.ended.append((model, OUTCOMES[status]))
            self._answer(status, json.dumps(error).encode())
        elif asked.get("stream"):
            send = self._stream_claude if is_claude else self._stream
            self.provider.ended.append((model, send(way, asked)))
        else:
            self.provider.ended.append((model, "success"))
            answer = _message(model) if is_claude else _completion(model)
            self._answer(200, json.dumps(answer).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        time.sleep(FIRST_BYTE_S)

    def _stream_claude(self, way: str, asked: dict[str, Any]) -> str:
        """Return the outcome."""
        self._begin_stream()
        try:
            begun = _message(asked["model"]) | {"content": [], "stop_reason": None}
            begun["usage"] = {**ANTHROPIC_USAGE, "output_tokens": 1}
            self._event("message_start", message=begun)
            self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            for _ in range(SLOW_CHUNKS if way == "slow" else 2):
                self._event(
                    "content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}
                )
                if way == "slow":
                    time.sleep(SLOW_CHUNK_S)
            if way == "cut":
                return "stream_error"
            self._event("content_block_stop", index=0)
            self._event(
                "message_delta",
                delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage={"output_tokens": ANTHROPIC_USAGE["output_tokens"]},
            )
            self._event("message_stop")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            return "cancelled"
        return "success"

    def _event(self, name: str, **content: Any) -> None:
        self._write_chunk(f"event: {name}\ndata: {json.dumps({'type': name, **content})}\n\n")

    def _stream(self, model: str, asked: dict[str, Any]) -> str:
        """Return the outcome."""
        self._begin_stream()
        try:
            for _ in range(SLOW_CHUNKS if model == "slow" else 2):
                self._chunk(_delta(model, {"content": "a"}))
                if model == "slow":
                    time.sleep(SLOW_CHUNK_S)
            if model == "cut":
                return "stream_error"  # without the last chunk of the transfer encoding
            self._chunk(_delta(model, {}, finish="stop"))
            if (asked.get("stream_options") or {}).get("include_usage"):
                self._chunk(_delta(model, None) | {"usage": USAGE})
            self._chunk(None)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            return "cancelled"  # the client left
        return "success"

    def _chunk(self, content: dict[str, Any] | None) -> None:
        text = "[DONE]" if content is None else json.dumps(content)
        self._write_chunk(f"data: {text}\n\n")

    def _write_chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Write no log of requests."""


def _delta(model: str, delta: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [] if delta is None else [choice],
    }


def _completion(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "ab"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }


def _message(model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "ab"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }
