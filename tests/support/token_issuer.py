"""A token endpoint that issues signed tokens (RFC 6749, 7515), and the keys to check them with."""

import json
import re
import subprocess
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus

from tests.support.certificates import Certificate
from tests.support.checks import not_none
from tests.support.loopback_http import serving
from tests.support.programs import find_program

KEY_ID = "the-key"


@dataclass(slots=True)
class Issuer:
    """An issuer with one client."""

    url: str
    client: tuple[str, str] = ("worker", "the secret of the client")
    life_s: float | None = 300
    status: int = 200
    answer: bytes | None = None  # in place of a token
    redirect: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)  # the form of each request
    key: Path | None = None

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def keys_url(self) -> str:
        return f"{self.url}/keys"

    def token(self) -> str:
        """A token for the client; without a key it is numbered, and signed by nobody."""
        if self.key is None:
            return f"token-{len(self.asked)}"
        now_s = int(time.time())
        claims = {"sub": self.client[0], "iat": now_s, "exp": now_s + int(self.life_s or 60)}
        parts = ({"alg": "RS256", "kid": KEY_ID}, claims)
        text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        signed = _openssl("dgst", "-sha256", "-sign", self.key, stdin=text.encode())
        return f"{text}.{_encoded(signed)}"

    def keys(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        said = _openssl("rsa", "-in", not_none(self.key), "-noout", "-modulus").decode()
        modulus = bytes.fromhex(not_none(re.search("=([0-9A-F]+)", said))[1])
        one = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": _encoded(modulus)}
        return {"keys": [one | {"e": "AQAB"}]}


def signing_key(directory: Path) -> Path:
    """Make a key that signs tokens."""
    key = directory / "issuer.key"
    _openssl("genrsa", "-out", key, "2048")
    return key


@contextmanager
def token_issuer(
    certificate: Certificate | None = None, key: Path | None = None
) -> Iterator[Issuer]:
    """Run an issuer on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            issuer.asked.append({name: values[0] for name, values in form.items()})
            login = b64encode(":".join(map(quote_plus, issuer.client)).encode()).decode()
            if issuer.redirect is not None:
                self.reply(302, b"")
            elif self.headers.get("Authorization") != f"Basic {login}":
                self.reply(401, b'{"error": "invalid_client"}')
            elif issuer.answer is not None:
                self.reply(issuer.status, issuer.answer)
            else:
                found: dict[str, Any] = {"access_token": issuer.token(), "token_type": "Bearer"}
                if issuer.life_s is not None:
                    found |= {"expires_in": issuer.life_s}
                self.reply(issuer.status, json.dumps(found).encode())

        def do_GET(self) -> None:
            self.reply(200, json.dumps(issuer.keys()).encode())

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if issuer.redirect is not None:
                self.send_header("Location", issuer.redirect)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests short."""

    with serving(Handler, certificate) as url:
        issuer = Issuer(url, key=key)
        yield issuer


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _openssl(*arguments: object, stdin: bytes = b"") -> bytes:
    command = [find_program("openssl"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout
