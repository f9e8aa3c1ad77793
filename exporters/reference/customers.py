"""The customer directory: names and segments of hashed customer ids.

A YAML list of customers:

    - id: acme            # as events carry it
      name: Acme Corp
      segment: enterprise
      contract: enterprise-2026    # optional
      monthly_commitment_usd: 250000    # optional
      renewal: 2027-01-31    # optional: the day on which the contract ends or is renewed

Ids are hashed with the workers' key as soon as they are read. Any mistake is a ConfigError: a
customer that silently loses its name would be missed where it matters.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date as Date
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from slo.health_limits import MAX_LABEL_BYTES
from slo.policy.units import Money
from streams.config.settings import Settings
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError
from streams.events.decoder import UNKNOWN
from streams.state.limits import customer_tokens
from streams.state.registry import OTHER, CustomerTokens

KEYS = ("id", "name", "segment", "contract", "monthly_commitment_usd", "renewal")
_REQUIRED = ("id", "name", "segment")
_LONGEST_TEXT = 128


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer, without the id."""

    name: str
    segment: str
    contract: str | None = None
    monthly_commitment_usd: float | None = None
    renewal: Date | None = None


class Customers:
    """Looks customers up in the directory, by the token that the state has for them."""

    def __init__(self, customers: Mapping[str, Customer]) -> None:
        self._customers = customers

    def name_of(self, token: str) -> str:
        """Return the name of a customer; the token if it is not in the directory."""
        customer = self._customers.get(token)
        return token if customer is None else customer.name

    def fee_of(self, token: str) -> Money | None:
        """Return the commitment of a customer for a month; None if it is not known."""
        customer = self._customers.get(token)
        if customer is None or customer.monthly_commitment_usd is None:
            return None
        return Money(Decimal(str(customer.monthly_commitment_usd)), "USD")


class CustomerDirectory(Mapping[str, Customer]):
    """Customers by the token that the state has for them.

    `follow_tokens` makes the tokens known that are not the hash of the id by the present key.
    """

    def __init__(self, by_hash: Mapping[str, Customer]) -> None:
        self._by_hash, self._by_token = by_hash, by_hash
        self._tokens: Mapping[str, str] = {}

    def __getitem__(self, token: str) -> Customer:
        return self._by_token[token]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_token)

    def __len__(self) -> int:
        return len(self._by_token)

    def follow(self, tokens: Mapping[str, str]) -> None:
        """Look customers up by these tokens from now on; `tokens`: by the hash of the id."""
        if tokens is self._tokens:
            return
        # Replaced as a whole: other threads look customers up meanwhile.
        self._by_token = {
            tokens.get(hashed, hashed): customer for hashed, customer in self._by_hash.items()
        }
        self._tokens = tokens


def follow_tokens(customers: Mapping[str, Customer], tokens: Mapping[str, str]) -> None:
    """Look customers of a directory up by the tokens that a state has for them."""
    if isinstance(customers, CustomerDirectory):
        customers.follow(tokens)


def tokens_with(
    settings: Settings, tokens: Mapping[str, str] | None = None
) -> Callable[[str], str]:
    """Return the function from a customer's id to its token; `tokens`: as the state has them.

    The function raises ConfigError if there is no key: policies that name no customer need none.
    """

    # Once: it reads the key files and copies `tokens`.
    @cache
    def read() -> CustomerTokens:
        return customer_tokens(settings.worker, tokens or {})

    return lambda customer_id: read()(customer_id)


def load_directory(settings: Settings) -> CustomerDirectory:
    """Return the customers; none if no directory is configured. Raises ConfigError."""
    path = settings.exporter.customer_directory
    if path is None:
        return CustomerDirectory({})
    text = read_text(path, f"exporter.customer_directory: {path}", fix="give a YAML file")
    hashed = customer_tokens(settings.worker, {})
    return CustomerDirectory(read_directory(text, str(path), hashed))


def read_directory(text: str, origin: str, hashed: Callable[[str], str]) -> dict[str, Customer]:
    """Read a directory; `origin` names it in errors. Raises ConfigError."""
    entries = parse_document(text, origin)
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise ConfigError(
            f"{origin}: got {type(entries).__name__}; write a list, one `- id: ...` a customer"
        )
    found: dict[str, Customer] = {}
    place_of: dict[str, int] = {}  # names too: two customers of one name could not be told apart
    for at, entry in enumerate(entries):
        customer_id, customer = _customer(entry, f"{origin}: [{at}]")
        for what in (f"id {customer_id!r}", f"name {customer.name!r}"):
            if what in place_of:
                raise ConfigError(
                    f"{origin}: [{at}]: {what} stands at [{place_of[what]}] too; keep one"
                )
            place_of[what] = at
        found[hashed(customer_id)] = customer
    return found


def _customer(entry: Any, where: str) -> tuple[str, Customer]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: got {entry!r}; write the keys {', '.join(KEYS)}")
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"{where}: {key}: no such key; known are {', '.join(KEYS)}")
    texts = {key: _text(entry.get(key), f"{where}: {key}") for key in _REQUIRED}
    for key in ("name", "segment"):  # they become labels
        if len(texts[key].encode()) > MAX_LABEL_BYTES:
            raise ConfigError(
                f"{where}: {key}: has {len(texts[key].encode())} bytes, and Prometheus accepts "
                f"labels of up to {MAX_LABEL_BYTES}; shorten it"
            )
    # A customer of such a name would mix with the rest or with unknown customers.
    if texts["name"] in (OTHER, UNKNOWN):  # customers of that name are exported already
        raise ConfigError(
            f"{where}: name: got {texts['name']!r}; that name has a meaning here, choose another"
        )
    contract = entry.get("contract")
    commitment = entry.get("monthly_commitment_usd")
    if commitment is not None and (
        # In Python a bool is an int.
        isinstance(commitment, bool)
        or not isinstance(commitment, int | float)
        or not 0 <= commitment < 1e15  # refuses NaN, too
    ):
        raise ConfigError(
            f"{where}: monthly_commitment_usd: got {commitment!r}; write dollars a month, 0 or more"
        )
    return texts["id"], Customer(
        name=texts["name"],
        segment=texts["segment"],
        contract=None if contract is None else _text(contract, f"{where}: contract"),
        monthly_commitment_usd=None if commitment is None else float(commitment),
        renewal=_date(entry.get("renewal"), f"{where}: renewal"),
    )


def _date(value: Any, where: str) -> Date | None:
    """Return a date, which YAML reads as one unless it is in quotes."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = Date.fromisoformat(value)
    # A datetime is a date in Python.
    if value is None or (isinstance(value, Date) and not isinstance(value, datetime)):
        return value
    raise ConfigError(f"{where}: got {value!r}; write a day as YYYY-MM-DD")


def _text(value: Any, where: str) -> str:
    """Return a text that a label may hold. YAML reads an unquoted 42 or `no` as another type."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isprintable():
        return value
    found = "nothing" if value is None else repr(value)
    raise ConfigError(
        f"{where}: got {found}; write 1 to {_LONGEST_TEXT} printable characters, in quotes if YAML "
        "would take them for a number"
    )
