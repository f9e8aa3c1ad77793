"""`tokenpulse prices`: import and check price lists, and compute costs of requests."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from exporters.formatting import counted
from exporters.pricing.price_list import PriceRow, load_price_list, read_price_list
from exporters.pricing.rating import (
    RatedRequest,
    RatedTokens,
    Unpriced,
    find_price,
    money_text,
)
from exporters.pricing.request_table import check_columns, rate_lines
from exporters.pricing.sources import genai_prices, litellm, models_dev
from exporters.pricing.sources.entries import ModelEntries, rows_of
from slo.policy.loading import read_document
from streams.config.yaml_file import read_text
from streams.errors import ConfigError, RequestError, one_line
from tokenpulse.csv_tables import csv_table

_PATH = click.Path(path_type=Path)
_PRICES = click.option(
    "--prices",
    "prices_path",
    type=_PATH,
    required=True,
    help="The price list (docs/price-lists.md).",
)


@click.group()
def prices() -> None:
    """Import and check price lists, and compute costs of requests (docs/price-lists.md)."""


@prices.command("import")
@click.option(
    "--from",
    "source",
    type=click.Choice(["genai-prices", "litellm", "models.dev"]),
    required=True,
    help="Who published the files.",
)
@click.option(
    "--recorded-at",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day on which the files were fetched; default: today.",
)
@click.argument("files", nargs=-1, type=_PATH, required=True, metavar="FILE...")
def import_(source: str, recorded_at: datetime | None, files: tuple[Path, ...]) -> None:
    """Convert published prices to a price list, on standard output.

    FILE of genai-prices is a provider's YAML file, or a CSV table with a line for each price; of
    litellm its JSON table of models; of models.dev its api.json. Prices that are not per token of
    text are left out. Compare the list with your contracts before you use it.
    """
    day = (recorded_at or datetime.now(UTC)).date()
    models = [model for file in files for model in _imported(source, file, day)]
    rows = [row for model in models for row in rows_of(model, day, source)]
    if not rows:
        raise RequestError(f"{files[0]}: got no price per token; give files of {source}")
    text = _list_text(rows)
    # Read back, so that no list is printed that cannot be used.
    read_price_list(text, f"{files[0]}, imported")
    click.echo(text, nl=False)


@prices.command()
@click.argument("files", nargs=-1, type=_PATH, required=True, metavar="FILE...")
def check(files: tuple[Path, ...]) -> None:
    """Check price lists; exit status 2 with a line for each mistake."""
    for file in files:
        found = load_price_list(file)
        models = counted(len(found.by_model), "model")
        click.echo(f"{file}: {models}, {counted(len(found.prices), 'row')}, fine")


@prices.command("rate")
@_PRICES
@click.argument("file", type=_PATH)
def rate_(prices_path: Path, file: Path) -> None:
    """Print the cost of each request of a CSV file, to the last digit.

    docs/price-lists.md lists the columns. Prints CSV: line, model, input_usd, output_usd,
    total_usd, and why a request has no price. Exit status 1 if one has none.
    """
    price_list = load_price_list(prices_path)
    problems = 0
    with csv_table(file) as (columns, lines):
        check_columns(columns, str(file))
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["line", "model", "input_usd", "output_usd", "total_usd", "problem"])
        for rated in rate_lines(price_list, lines):
            cost = rated.cost
            dollars = (cost.input_usd, cost.output_usd, cost.total_usd) if cost else ()
            problems += cost is None
            texts = [money_text(usd) for usd in dollars] or ["", "", ""]
            writer.writerow([rated.line, rated.model, *texts, rated.problem])
    sys.exit(bool(problems))


@prices.command()
@_PRICES
@click.option("--model", required=True, help="Name of the model as the list has it.")
@click.option("--at", help="Instant of the request in ISO 8601, UTC without a zone; default: now.")
@click.option("--provider", help="Provider of the model, if the list has prices of several.")
@click.option("--channel", help="Sales channel of the request.")
@click.option("--region", help="Region of the request.")
@click.option("--service-tier", help="Service tier of the request; default: standard.")
@click.option("--input-tokens", type=click.IntRange(0), default=0, help="Its input tokens.")
def explain(
    prices_path: Path, model: str, at: str | None, input_tokens: int, **names: str | None
) -> None:
    """Show the row whose prices a request has; exit status 1 if it has none."""
    request = RatedRequest(model, _instant(at), RatedTokens(input_tokens, 0), **names)
    found = find_price(load_price_list(prices_path), request)
    if isinstance(found, Unpriced):
        click.echo(found.reason)
        sys.exit(1)
    for name, value in _row_fields(found).items():
        click.echo(f"{name}: {value}")


@prices.command()
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
def diff(old: Path, new: Path) -> None:
    """Show which rows of a price list were added, removed or changed; exit status 1 if any."""
    lists = [load_price_list(file) for file in (old, new)]
    before, after = ({(row.conditions, row.from_): row for row in one.prices} for one in lists)
    fallbacks = [f"tier_fallback {one.tier_fallback}" for one in lists]
    lines = [
        *([f"- {fallbacks[0]}", f"+ {fallbacks[1]}"] if fallbacks[0] != fallbacks[1] else []),
        *(f"- {_row_text(row)}" for key, row in before.items() if key not in after),
        *(f"+ {_row_text(row)}" for key, row in after.items() if key not in before),
    ]
    for key, row in before.items():
        now = after.get(key, row)
        if (row.usd_per_mtok, row.to) != (now.usd_per_mtok, now.to):
            lines += [f"- {_row_text(row)}", f"+ {_row_text(now)}"]
    for line in lines:
        click.echo(line)
    sys.exit(bool(lines))


def _instant(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(f"--at: got {text}; write 2026-10-20T14:00:00Z") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _imported(source: str, file: Path, day: date) -> list[ModelEntries]:
    """Return the models of a file of a source. Raises ConfigError."""
    try:
        if source == "litellm":
            return list(litellm.models_of(_json(file), day))
        if source == "models.dev":
            return list(models_dev.models_of(_json(file), day))
        if file.suffix == ".csv":
            with csv_table(file) as (_, lines):
                return list(genai_prices.from_table(line for _, line in lines))
        return list(genai_prices.from_provider(read_document(read_text(file), str(file))))
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(
            f"{file}: has not the form of {source} ({one_line(repr(error))}); docs/price-lists.md "
            "names its files"
        ) from error


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_text(file), parse_float=Decimal)
    return found


def _list_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a price list with a line for each row."""
    head = "version: 2\n# Tiers without a row have the standard price, as at the source.\n"
    lines = (f"  - {_flow(row)}\n" for row in rows)
    return f"{head}tier_fallback: standard\nprices:\n{''.join(lines)}"


def _flow(value: Any) -> str:
    """Return plain data in the flow style of YAML, amounts with all their digits."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(part)}' for key, part in value.items())}}}"
    return money_text(value) if isinstance(value, Decimal) else json.dumps(value)


def _row_fields(row: PriceRow) -> dict[str, str]:
    """Return the fields that a row was given, as texts."""
    fields = row.model_dump(exclude_unset=True, by_alias=True, mode="json")
    fields["usd_per_mtok"] = ", ".join(
        f"{name} {money_text(usd)}" for name, usd in row.usd_per_mtok if usd is not None
    )
    return {name: str(value) for name, value in fields.items()}


def _row_text(row: PriceRow) -> str:
    return ", ".join(f"{name} {value}" for name, value in _row_fields(row).items())
