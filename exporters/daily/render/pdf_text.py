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
    """Return the text on one line, with characters that the font lacks replaced visibly."""
    glyphs = _glyphs(font)
    one_line = " ".join(text.split())
    return "".join(
        char if char == " " or (char.isprintable() and ord(char) in glyphs) else LACKING
        for char in one_line
    )


def lacks(texts: Sequence[str]) -> bool:
    """Return True if a character of these texts was replaced."""
    return any(" ".join(text.split()) != shown(text) for text in texts)


def width(text: str, font: str, size: float) -> float:
    """Return the width of a prepared text in points."""
    return pdfmetrics.stringWidth(text, font, size)


def cut(text: str, font: str, size: float, room: float) -> str:
    """Return as much of a prepared text as fits."""
    if width(text, font, size) <= room:
        return text
    kept = len(text)
    while kept and width(text[:kept].rstrip() + ELLIPSIS, font, size) > room:
        kept -= 1
    return text[:kept].rstrip() + ELLIPSIS


def broken(text: str, font: str, size: float, room: float, lines_max: int) -> list[str]:
    """Break a prepared text between words into at most `lines_max` lines; cut the last."""
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
    """Return the number of characters that fit on one line; at least one."""
    if width(text, font, size) <= room:
        return len(text)
    fits = 1
    while width(text[: fits + 1], font, size) <= room:
        fits += 1
    space = text.rfind(" ", 0, fits + 1)
    return space if space > 0 else fits
