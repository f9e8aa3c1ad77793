"""Reads the boards' templates: all text is escaped, an unknown name is an error."""

from base64 import b64encode
from hashlib import sha256

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def templates(*packages: str) -> Environment:
    """Return the environment of the templates in the packages' folders `templates`.

    Of two templates of one name, that of the first package is used.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style_source(style: str) -> str:
    """Return the source of an inline style sheet for a content security policy: its hash."""
    # Of the style element's exact text, as browsers compute it.
    return f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
