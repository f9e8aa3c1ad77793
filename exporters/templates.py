"""Reads the boards' templates: all text is escaped, an unknown name is an error."""

from base64 import b64encode
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(package: str) -> Environment:
    """Return the environment of the templates in a package's folder `templates`."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style_source(style: str) -> str:
    """Return the source of an inline style sheet for a content security policy: its hash."""
    # Of the style element's exact text, as browsers compute it.
    return f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
