"""Text on a PDF page: which characters can be shown, how it is broken into lines and cut.

Pure but for the fonts, which are read once from the package that draws with them.
"""

from collections.abc import Sequence
from functools import cache

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR, BOLD = "Vera", "VeraBd"
LACKING = "?"  # stands for a character that the fonts lack; the foot of the page says so
ELLIPSIS = "…"


@cache
def _glyphs(font: str) -> frozenset[int]:
    found = TTFont(font, f"{font}.ttf")
    pdfmetrics.registerFont(found)
    return frozenset(found.face.charToGlyph)


def shown(text: str, font: str = REGULAR) -> str:
    """The text with what the font lacks, or what is no character, replaced visibly."""
    glyphs = _glyphs(font)
    one_line = " ".join(text.split())
    return "".join(
        char if char == " " or (char.isprintable() and ord(char) in glyphs) else LACKING
        for char in one_line
    )


def lacks(texts: Sequence[str]) -> bool:
    """Whether a character of these was replaced."""
    return any(" ".join(text.split()) != shown(text) for text in texts)


def width(text: str, font: str, size: float) -> float:
    """How wide a shown text is, in points."""
    return pdfmetrics.stringWidth(text, font, size)


def cut(text: str, font: str, size: float, room: float) -> str:
    """As much of a shown text as there is room for."""
    if width(text, font, size) <= room:
        return text
    kept = len(text)
    while kept and width(text[:kept].rstrip() + ELLIPSIS, font, size) > room:
        kept -= 1
    return text[:kept].rstrip() + ELLIPSIS


def broken(text: str, font: str, size: float, room: float, lines_max: int) -> list[str]:
    """A shown text in at most so many lines, broken between words, the last one cut."""
    lines: list[str] = []
    rest = text
    while rest:
        if len(lines) == lines_max - 1:
            return [*lines, cut(rest, font, size, room)]
        fits = _fitting(rest, font, size, room)
        lines.append(rest[:fits].rstrip())
        rest = rest[fits:].lstrip()
    return lines


def _fitting(text: str, font: str, size: float, room: float) -> int:
    """How many characters of it go on one line; at least one."""
    if width(text, font, size) <= room:
        return len(text)
    fits = 1
    while width(text[: fits + 1], font, size) <= room:
        fits += 1
    space = text.rfind(" ", 0, fits + 1)
    return space if space > 0 else fits
