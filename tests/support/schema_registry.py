"""A schema registry over HTTP: Confluent's REST API, as far as serialisers and readers use it."""

import json
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.certificates import Certificate
from tests.support.loopback_http import serving


@dataclass
class Registry:
    """The schemas of one registry. `asked`: the paths of all questions for a schema, in order."""

    url: str
    login: tuple[str, str] | None = None
    schemas: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers_503: bool = False
    answers_after_s: float = 0.0
    # In place of a Protobuf schema that is wanted serialised; the empty text: an answer 500.
    serialises_as: str | None = None

    def register(
        self, subject: str, schema: str, kind: str = "AVRO", references: Sequence[Any] = ()
    ) -> int:
        """Return the id of a schema, which is the same for the same schema."""
        content = {"schema": schema, "schemaType": kind, "references": list(references)}
        text = json.dumps(content, sort_keys=True)
        for entry in self.schemas:
            if entry["subject"] == subject and entry["text"] == text:
                return int(entry["id"])
        known = [entry for entry in self.schemas if entry["subject"] == subject]
        # Ids that use more than one of the four bytes.
        number = 70_000 + len(self.schemas)
        self.schemas.append(
            content
            | {"id": number, "subject": subject, "version": len(known) + 1, "text": text}
            | {"guid": str(uuid.uuid5(uuid.NAMESPACE_URL, text))}
        )
        return number

    def answer(self, path: str) -> dict[str, Any] | None:
        """Return the answer to a question for a schema."""
        match path.strip("/").split("/"):
            case ["schemas", "ids", number]:
                found = [entry for entry in self.schemas if str(entry["id"]) == number]
            case ["schemas", "guids", guid]:
                found = [entry for entry in self.schemas if entry["guid"] == guid]
            case ["subjects", subject, "versions", version]:
                key = unquote(subject), version
                found = [e for e in self.schemas if (e["subject"], str(e["version"])) == key]
            case _:
                return None
        return next((public(entry) for entry in found), None)


def public(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as a registry gives it: Avro is the type that it leaves out."""
    hidden = {"text"} | ({"schemaType"} if entry["schemaType"] == "AVRO" else set())
    return {name: value for name, value in entry.items() if name not in hidden}


@contextmanager
def schema_registry(
    login: tuple[str, str] | None = None, certificate: Certificate | None = None
) -> Iterator[Registry]:
    """Run a registry on a free loopback port, with TLS if it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            registry.asked.append(self.path)
            time.sleep(registry.answers_after_s)
            answer = registry.answer(path)
            status = 200
            if answer and self.path.endswith("?format=serialized"):
                if registry.serialises_as == "":
                    status = 500
                answer["schema"] = registry.serialises_as or answer["schema"]
            self.reply(answer, status)

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            subject = unquote(urlsplit(self.path).path.split("/")[2])
            arguments = given["schema"], given.get("schemaType", "AVRO")
            number = registry.register(subject, *arguments, given.get("references") or ())
            self.reply(public(next(e for e in registry.schemas if e["id"] == number)))

        def reply(self, content: dict[str, Any] | None, status: int = 200) -> None:
            if content is None:
                status = 404
            if registry.login is not None:
                expected = b64encode(":".join(registry.login).encode()).decode()
                if self.headers.get("Authorization") != f"Basic {expected}":
                    status = 401
            if registry.answers_503:
                status = 503
            body = json.dumps(content if status == 200 else {"error_code": status}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the output of the tests short."""

    with serving(Handler, certificate) as url:
        registry = Registry(url, login)
        yield registry
