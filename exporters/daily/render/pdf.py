"""The daily board as a PDF of one A4 page, with its fonts inside.

The same facts give the same bytes. A text that is too long for its place is cut, and ends with an
ellipsis.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from exporters.daily.day.facts import METRICS, DailyFacts, Mark
from exporters.daily.render.charts import plot
from exporters.daily.render.pdf_text import BOLD, LACKING, REGULAR, broken, cut, lacks, shown, width
from exporters.daily.render.rows import TITLES, Against, Row
from exporters.daily.render.view import View, view_of

INK, QUIET, RULE = HexColor("#16181d"), HexColor("#59606c"), HexColor("#d9dde3")
RAISED, CAUTION_PAPER, CAUTION = HexColor("#f5f6f8"), HexColor("#fff4de"), HexColor("#8a5300")
ACCENT = HexColor("#2456c8")
COLORS: dict[Mark, Color] = {
    "best": HexColor("#5b3fc4"),
    "met": HexColor("#11703c"),
    "missed": HexColor("#b3261e"),
    "unknown": QUIET,
}
MARGIN = 34.0
RIGHT = A4[0] - MARGIN
WIDE = A4[0] - 2 * MARGIN
# Left edges of the columns of the seven numbers.
_NUMBERS = (0.0, 93.0, 190.0, 266.0, 343.0, 418.0)
_CHART_WIDTH, _CHART_HEIGHT = 54.0, 28.0
_NUMBERS_ROW, _RISKS_ROW, _STRIP_ROW = 32.0, 21.0, 10.5
_STAR = (
    *((8, 0.8), (10.2, 5.4), (15.2, 6.1), (11.6, 9.6), (12.5, 14.6), (8, 12.2), (3.5, 14.6)),
    *((4.4, 9.6), (0.8, 6.1), (5.8, 5.4)),
)  # fmt: skip


def pdf(facts: DailyFacts) -> bytes:
    """The page."""
    view = view_of(facts)
    out = BytesIO()
    shown("", BOLD)  # the fonts, before they are drawn with
    shown("", REGULAR)
    canvas = Canvas(out, A4, invariant=1, pageCompression=1, lang="en")
    canvas.setTitle(f"Daily reliability board, {view.date}")
    canvas.setSubject(shown(view.headline))
    canvas.setAuthor("Tokenpulse")
    canvas.setCreator("Tokenpulse")
    _Sheet(canvas).draw(view)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


class _Sheet:
    """Draws from the top down; `_y` is where the next thing begins, in points from below."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._y = A4[1] - MARGIN

    def draw(self, view: View) -> None:
        self._head(view)
        self._heading("Seven numbers")
        self._numbers(view)
        self._heading("What moved")
        causes = view.causes or ("Nothing that could be told apart from an ordinary day.",)
        for number, words in enumerate(causes, 1):
            if view.causes:
                self._text(f"{number}.", 0, 8, y=self._y - 10)
            self._paragraph(words, 8, 3, x=12 if view.causes else 0)
        if view.causes_note:
            self._paragraph(view.causes_note, 6.5, 2, x=12, color=QUIET)
        self._y -= 2
        top = self._y
        self._risks(view)
        below, self._y = self._y, top
        self._segments(view)
        self._y = min(below, self._y) - 2
        self._heading(f"{len(view.days)} days")
        self._strip(view)
        self._foot(view)

    def _head(self, view: View) -> None:
        self._text("Tokenpulse · Daily reliability board", 0, 8, QUIET, y=self._y - 8)
        self._y -= 26
        end = self._text(view.date_words, 0, 17, font=BOLD)
        self._text(f"({', '.join(view.badges)})", end + 6, 10, _badge_color(view), font=BOLD)
        self._y -= 5
        self._paragraph(view.headline, 11.5, 2, font=BOLD)
        self._y -= 2
        paper = RAISED if view.reliable else CAUTION_PAPER
        for words in (view.trust, *view.corrections[:2]):
            lines = broken(shown(words), REGULAR, 8, WIDE - 12, 2)
            height = 10 * len(lines) + 5
            self._canvas.setFillColor(paper)
            self._canvas.roundRect(MARGIN, self._y - height, WIDE, height, 3, stroke=0, fill=1)
            self._paragraph(words, 8, 2, x=6, room=WIDE - 12)
            self._y -= 7

    def _heading(self, words: str) -> None:
        self._y -= 14
        self._text(words, 0, 9.5, font=BOLD)
        self._y -= 4

    def _numbers(self, view: View) -> None:
        titles = (
            *("Number", "This day", "Target", "Against 7 days", "Against 28 days"),
            f"{view.month} to date",
        )
        self._y -= 8
        for x, title in zip(_NUMBERS, titles, strict=True):
            self._text(title, x, 7, QUIET, font=BOLD)
        self._y -= 4
        for row in view.rows:
            self._rule()
            self._number(row)
            self._y -= _NUMBERS_ROW

    def _number(self, row: Row) -> None:
        first, second = self._y - 13, self._y - 22
        color = COLORS["missed"] if row.value.mark == "missed" else INK
        self._text(row.title, _NUMBERS[0], 8.5, font=BOLD, y=first)
        self._text(row.about, _NUMBERS[0], 6.5, QUIET, y=second)
        room = _NUMBERS[2] - _NUMBERS[1] - 4
        size = 13.0
        while size > 8 and width(shown(row.value.text, BOLD), BOLD, size) > room:
            size -= 0.5
        self._text(row.value.text, _NUMBERS[1], size, color, BOLD, y=first, room=room)
        self._text(row.samples, _NUMBERS[1], 6.5, QUIET, y=second)
        if row.target:
            self._text_with_mark(row.value.mark, row.value.words, _NUMBERS[2], first)
            for at, line in enumerate(broken(shown(row.target), REGULAR, 6.5, 74, 2)):
                self._text(line, _NUMBERS[2], 6.5, QUIET, y=second - 7.5 * at)
        else:
            self._text(row.value.words, _NUMBERS[2], 8, QUIET, y=first, room=74)
        if row.week is None or row.four_weeks is None:
            room = WIDE - _NUMBERS[3]
            for at, line in enumerate(broken(shown(row.note), REGULAR, 7.5, room, 2)):
                self._text(line, _NUMBERS[3], 7.5, QUIET, y=first - 9 * at)
            return
        self._against(row.week, _NUMBERS[3], first, second)
        self._against(row.four_weeks, _NUMBERS[4], first, second)
        if row.month is not None:
            self._text(row.month.text, _NUMBERS[5], 8, y=first)
            if row.target:
                self._mark(row.month.mark, _NUMBERS[5], second, 6)
                self._text(row.month.words, _NUMBERS[5] + 8, 6.5, QUIET, y=second)
        self._chart(row)

    def _against(self, found: Against, x: float, first: float, second: float) -> None:
        color = {True: COLORS["met"], False: COLORS["missed"], None: INK}[found.better]
        self._text(found.words, x, 7, color, y=first, room=73)
        self._text(found.norm, x, 6.5, QUIET, y=second)

    def _chart(self, row: Row) -> None:
        chart = row.chart
        if chart is None:
            return
        left, top = RIGHT - _CHART_WIDTH, self._y - 2
        found = plot(chart, _CHART_WIDTH, _CHART_HEIGHT, 3)
        canvas = self._canvas
        canvas.setLineWidth(0.6)
        if found.target_y is not None:
            canvas.setStrokeColor(QUIET)
            canvas.setDash(2, 2)
            canvas.line(left, top - found.target_y, RIGHT, top - found.target_y)
            canvas.setDash()
        canvas.setStrokeColor(INK)
        for line in found.lines:
            path = canvas.beginPath()
            path.moveTo(left + line[0][0], top - line[0][1])
            for x, y in line[1:]:
                path.lineTo(left + x, top - y)
            canvas.drawPath(path)
        canvas.setStrokeColor(COLORS["missed"])
        for x, y in found.missed:
            canvas.line(left + x - 1.5, top - y - 1.5, left + x + 1.5, top - y + 1.5)
            canvas.line(left + x - 1.5, top - y + 1.5, left + x + 1.5, top - y - 1.5)
        if found.chosen is not None:
            canvas.setStrokeColor(ACCENT)
            canvas.circle(left + found.chosen[0], top - found.chosen[1], 2.2)

    def _risks(self, view: View) -> None:
        self._heading("Objectives at risk")
        if not view.risks:
            self._paragraph("No policy in force has an error budget.", 7.5, 1)
            return
        self._y -= 7
        for x, title in zip((0, 118, 165), ("Objective", "Attained", "Budget"), strict=True):
            self._text(title, x, 6.5, QUIET, font=BOLD)
        self._right("Credit ahead", 298, 6.5, QUIET, BOLD)
        self._y -= 3
        for risk in view.risks:
            self._rule(298)
            first, second = self._y - 8.5, self._y - 16.5
            scope = risk.scope + (", adjusted" if risk.adjusted else "")
            self._text(risk.name, 0, 7, font=BOLD, y=first, room=114)
            self._text(scope, 0, 6.5, QUIET, y=second, room=114)
            self._text(risk.attained, 118, 7, y=first)
            self._text(f"of {risk.target}", 118, 6.5, QUIET, y=second)
            self._mark(risk.budget.mark, 165, first, 6)
            self._text(risk.budget.text, 173, 7, y=first, room=62)
            self._right(risk.credit, 298, 7, y=first)
            self._y -= _RISKS_ROW
        self._more(view.risks_more, 0)

    def _segments(self, view: View) -> None:
        begin = 316.0
        self._y -= 14
        self._text("Segments", begin, 9.5, font=BOLD)
        self._y -= 4
        if not view.segments:
            self._paragraph("No customer directory is configured.", 7.5, 1, x=begin, room=200)
            return
        self._y -= 7
        self._text("Segment", begin, 6.5, QUIET, BOLD)
        ends = (411.0, 446.0, 492.0, WIDE)
        for end, title in zip(ends, ("Requests", "Tokens", "Uptime", "Cache"), strict=True):
            self._right(title, end, 6.5, QUIET, BOLD)
        self._y -= 3
        for one in view.segments:
            self._rule(WIDE, begin)
            first = self._y - 8.5
            self._text(one.name, begin, 7, font=BOLD, y=first, room=58)
            self._text(one.customers, begin, 6.5, QUIET, y=self._y - 16.5)
            texts = (one.requests, one.tokens, one.availability, one.cache_hit)
            for end, text in zip(ends, texts, strict=True):
                self._right(text, end, 7, y=first)
            self._y -= _RISKS_ROW
        self._more(view.segments_more, begin)

    def _more(self, number: int, x: float) -> None:
        if number:
            self._text(f"{number} more in the JSON.", x, 6.5, QUIET, y=self._y - 7)
            self._y -= 9

    def _strip(self, view: View) -> None:
        begin = 74.0
        step = (WIDE - begin) / len(view.days)
        self._y -= 7
        for at, day in enumerate(view.days):
            x = begin + (at + 0.5) * step
            if day.chosen:
                self._canvas.setFillColor(RAISED)
                depth = 9 + _STRIP_ROW * len(METRICS)
                left = MARGIN + x - step / 2
                self._canvas.rect(left, self._y + 8 - depth, step, depth, stroke=0, fill=1)
            self._centre(day.day, x, ACCENT if day.chosen else QUIET)
        self._y -= 3
        for row, metric in enumerate(METRICS[1:], 1):
            self._rule()
            self._text(TITLES[metric], 0, 7, font=BOLD, y=self._y - 8)
            for at, day in enumerate(view.days):
                x = begin + (at + 0.5) * step
                self._mark(day.cells[row].mark, x - 3, self._y - 8, 6)
            self._y -= _STRIP_ROW
        self._rule()
        self._text("State", 0, 7, font=BOLD, y=self._y - 8)
        self._y -= 8
        for at, day in enumerate(view.days):
            self._centre(day.letter, begin + (at + 0.5) * step, INK)
        self._y -= 4

    def _foot(self, view: View) -> None:
        x = 0.0
        self._y -= 8
        for mark, words in _LEGEND:
            x = self._text_with_mark(mark, words, x, self._y, 6.5) + 9
        self._text(_LETTERS, x, 6.5, QUIET)
        self._y -= 3
        note = (
            f"Made {view.made}; days of the zone {view.zone}. Percentiles are within 1 % of the "
            "exact value; numbers are rounded down, and judged before that. A norm is the median "
            "of the days before."
        )
        if lacks(list(_texts(view))):
            note += f" {LACKING} stands for characters that this font lacks."
        self._paragraph(note, 6.5, 2, color=QUIET)

    def _text_with_mark(self, mark: Mark, words: str, x: float, y: float, size: float = 8) -> float:
        self._mark(mark, x, y, size * 0.9)
        return self._text(words, x + size * 1.25, size, y=y)

    def _mark(self, mark: Mark, x: float, y: float, size: float) -> None:
        """A mark on the base line `y`: a shape of its own besides the colour."""
        canvas, left, scale = self._canvas, MARGIN + x, size / 16
        canvas.setFillColor(COLORS[mark])
        canvas.setStrokeColor(COLORS[mark])
        match mark:
            case "best":
                path = canvas.beginPath()
                path.moveTo(left + _STAR[0][0] * scale, y + size - _STAR[0][1] * scale)
                for at_x, at_y in _STAR[1:]:
                    path.lineTo(left + at_x * scale, y + size - at_y * scale)
                path.close()
                canvas.drawPath(path, stroke=0, fill=1)
            case "met":
                canvas.circle(left + size / 2, y + size / 2, size * 0.36, stroke=0, fill=1)
            case "missed":
                canvas.setLineWidth(size / 5)
                near, far = size * 0.14, size * 0.86
                canvas.line(left + near, y + near, left + far, y + far)
                canvas.line(left + near, y + far, left + far, y + near)
            case _:
                canvas.setLineWidth(size / 8)
                canvas.line(left + size * 0.2, y + size / 2, left + size * 0.8, y + size / 2)

    def _text(
        self,
        text: str,
        x: float,
        size: float,
        color: Color = INK,
        font: str = REGULAR,
        *,
        y: float | None = None,
        room: float | None = None,
    ) -> float:
        """Draw one line; returns where it ends."""
        text = cut(shown(text, font), font, size, WIDE - x if room is None else room)
        self._canvas.setFillColor(color)
        self._canvas.setFont(font, size)
        self._canvas.drawString(MARGIN + x, self._y if y is None else y, text)
        return x + width(text, font, size)

    def _right(
        self,
        text: str,
        end: float,
        size: float,
        color: Color = INK,
        font: str = REGULAR,
        *,
        y: float | None = None,
    ) -> None:
        start = end - width(shown(text, font), font, size)
        self._text(text, start, size, color, font, y=y, room=WIDE)

    def _centre(self, text: str, x: float, color: Color) -> None:
        self._text(text, x - width(shown(text), REGULAR, 6) / 2, 6, color, room=WIDE)

    def _paragraph(
        self,
        text: str,
        size: float,
        lines_max: int,
        *,
        x: float = 0,
        room: float | None = None,
        color: Color = INK,
        font: str = REGULAR,
    ) -> None:
        room = WIDE - x if room is None else room
        for line in broken(shown(text, font), font, size, room, lines_max):
            self._y -= size * 1.25
            self._text(line, x, size, color, font, room=room)

    def _rule(self, end: float = WIDE, begin: float = 0) -> None:
        self._canvas.setStrokeColor(RULE)
        self._canvas.setLineWidth(0.5)
        self._canvas.line(MARGIN + begin, self._y, MARGIN + end, self._y)


_LEGEND: Sequence[tuple[Mark, str]] = (
    ("best", "best in class"),
    ("met", "met"),
    ("missed", "missed"),
    ("unknown", "not known"),
)
_LETTERS = "R still running · P provisional · ! incomplete · C corrected · – no data"


def _badge_color(view: View) -> Color:
    return COLORS["met"] if view.reliable else CAUTION


def _texts(view: View) -> Iterator[str]:
    """Yield all texts that contain names from outside."""
    yield from (view.headline, view.trust, *view.corrections, *view.causes)
    for risk in view.risks:
        yield from (risk.name, risk.scope)
    yield from (one.name for one in view.segments)
