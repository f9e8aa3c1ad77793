"""Static files of the pages, under addresses that change with their content, and safe headers."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from aiohttp import web

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
_FOR_EVER = "public, max-age=31536000, immutable"
# Only files of this server; no script or style inside the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file; its address changes with its content."""

    name: str
    body: bytes
    digest: str
    address: str  # relative to the root of the exporter


@cache
def static_files(package: str) -> Mapping[str, Asset]:
    """Return the files in a package's folder `static` by name, read once.

    The last part of the package's name is the first part of their addresses.
    """
    folder = package.rpartition(".")[2]
    found = {}
    for file in files(package).joinpath("static").iterdir():
        body = file.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:16]
        found[file.name] = Asset(file.name, body, digest, f"{folder}/static/{digest}/{file.name}")
    return found


def static_route(package: str) -> web.RouteDef:
    """Return the route of a package's static files."""
    folder = package.rpartition(".")[2]
    return web.get(f"/{folder}/static/{{digest}}/{{name}}", _handler(package))


def _handler(package: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        asset = static_files(package).get(request.match_info["name"])
        if asset is None or request.match_info["digest"] != asset.digest:
            raise web.HTTPNotFound(headers=SAFE_HEADERS)
        headers = {**SAFE_HEADERS, "Cache-Control": _FOR_EVER, "ETag": f'"{asset.digest}"'}
        if request.if_none_match and any(
            tag.value == asset.digest for tag in request.if_none_match
        ):
            return web.Response(status=304, headers=headers)
        kind = _TYPES[asset.name.rpartition(".")[2]]
        return web.Response(body=asset.body, content_type=kind, charset="utf-8", headers=headers)

    return serve
