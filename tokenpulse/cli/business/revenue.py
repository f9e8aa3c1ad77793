"""`tokenpulse business`: revenue of accounts over time."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from exporters import formatting
from exporters.revenue.history import DaySpan, Revenue, first_gap, parse_history, parse_span
from exporters.revenue.movements import YEAR_DAYS, Bridge, Retention, bridge
from streams.errors import RequestError
from tokenpulse.csv_tables import csv_table

_CURRENCY = "USD"


@click.group()
def business() -> None:
    """Compute revenue of accounts over time (docs/business.md)."""


@business.command()
@click.argument("history", type=click.Path(path_type=Path))
@click.option("--start", required=True, help="First window, such as 2026-05-01..2026-06-01.")
@click.option("--end", required=True, help="Second window; its last day is not included.")
@click.option("--json", "as_json", is_flag=True, help="Print exact numbers for programs.")
def arr(history: Path, start: str, end: str, as_json: bool) -> None:
    """Show the annual run rate, its movements, and net and gross retention.

    HISTORY is a CSV file with the columns account, segment, from, to and net_usd. Both windows
    consist of whole lines of it.
    """
    windows = _window("--start", start), _window("--end", end)
    if windows[0].overlaps(windows[1]) or windows[1].begin < windows[0].begin:
        raise RequestError(f"--end: got {end}; give a window after that of --start")
    with csv_table(history) as (columns, lines):
        rows = parse_history(lines, columns, str(history))
    _check_history(rows, windows, history)
    found = bridge(rows, *windows)
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
    else:
        _print(found)


def _window(option: str, text: str) -> DaySpan:
    try:
        return parse_span(text)
    except ValueError as error:
        raise RequestError(f"{option}: {error}") from error


def _check_history(rows: list[Revenue], windows: tuple[DaySpan, DaySpan], file: Path) -> None:
    """Raise RequestError if the history leaves out days of a window."""
    for window in windows:
        gap = first_gap(rows, window)
        if gap is not None:
            raise RequestError(f"{file}: no line is about {gap}; add these days, or ask for less")


def _print(found: Bridge) -> None:
    for name, window, usd in (
        ("start", found.start, found.start_arr_usd),
        ("end", found.end, found.end_arr_usd),
    ):
        factor = f"{YEAR_DAYS}/{window.days}"
        click.echo(f"{f'ARR at the {name}':<20}{_money(usd):>20}  {window}, revenue x {factor}")
    for name, usd in found.movements_usd.items():
        click.echo(f"  {name:<18}{_money(usd):>20}")
    click.echo(f"{'net new ARR':<20}{_money(found.end_arr_usd - found.start_arr_usd):>20}")
    click.echo(f"{'retention':<20}{'net':>12}{'gross':>12}{'accounts':>12}")
    for segment, retention in (
        ("all accounts", found.retention),
        *found.retention_by_segment.items(),
    ):
        click.echo(
            f"  {segment:<18}{formatting.percent(retention.net_ratio):>12}"
            f"{formatting.percent(retention.gross_ratio):>12}{retention.accounts:>12}"
        )
    click.echo(
        f"The history begins on {found.history_begin}: accounts whose revenue ended before "
        "that count as new."
    )


def _money(usd: Fraction) -> str:
    return formatting.money(Decimal(usd.numerator) / usd.denominator, _CURRENCY)


def _document(found: Bridge) -> dict[str, Any]:
    return {
        "start": {**_span(found.start), "arr_usd": _exact(found.start_arr_usd)},
        "end": {**_span(found.end), "arr_usd": _exact(found.end_arr_usd)},
        "movements_usd": {name: _exact(usd) for name, usd in found.movements_usd.items()},
        "net_new_arr_usd": _exact(found.end_arr_usd - found.start_arr_usd),
        "retention": {
            "all": _retention(found.retention),
            "segments": {
                segment: _retention(retention)
                for segment, retention in found.retention_by_segment.items()
            },
        },
        "history_begin": f"{found.history_begin}",
    }


def _span(window: DaySpan) -> dict[str, Any]:
    return {"from": f"{window.begin}", "to": f"{window.end}", "days": window.days}


def _retention(retention: Retention) -> dict[str, Any]:
    return {
        "accounts": retention.accounts,
        "net_ratio": _exact(retention.net_ratio),
        "gross_ratio": _exact(retention.gross_ratio),
    }


def _exact(number: Fraction | None) -> str | None:
    """Return a whole number or a fraction as text, so that no digit is lost."""
    return None if number is None else str(number)
