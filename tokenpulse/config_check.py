"""The checks of `tokenpulse config check`, by the role of the process that has the settings."""

import asyncio
from collections.abc import Callable, Iterator

from exporters.reference.customers import load_directory
from exporters.reference.prices import load_price_book
from exporters.server.web_config import load_web_config
from exporters.status_page.components import load_status_page
from slo.policy.loading import load_policies
from streams.config.settings import Settings
from streams.errors import TokenpulseError
from streams.intake.source_topics import source_converters
from streams.intake.tokens import load_tokens
from streams.kafka.topics import check_broker, check_permissions
from streams.security.clients import client_kwargs
from streams.security.permissions import intake_permissions, worker_permissions
from streams.store.servers.check import check_redis

Check = Callable[[Settings], object]


def _check_kafka(settings: Settings) -> None:
    asyncio.run(check_broker(settings.kafka.bootstrap, **client_kwargs(settings.kafka)))


def _check_permissions(settings: Settings) -> None:
    asyncio.run(check_permissions(settings.kafka, worker_permissions(settings)))


def _check_intake_permissions(settings: Settings) -> None:
    sources = [source.topic for source in settings.intake.sources]
    asyncio.run(check_permissions(settings.kafka, intake_permissions(settings.kafka, sources)))


def _check_redis(settings: Settings) -> None:
    asyncio.run(check_redis(settings.redis))


def _check_redis_as_reader(settings: Settings) -> None:
    asyncio.run(check_redis(settings.redis, writes_state=False))


def _check_prices(settings: Settings) -> None:
    if settings.exporter.price_book is not None:
        load_price_book(settings.exporter.price_book)


def _check_status_page(settings: Settings) -> None:
    if settings.exporter.status_page is not None:
        load_status_page(settings.exporter.status_page)


def _check_tokens(settings: Settings) -> None:
    load_tokens(settings.intake)


def _check_sources(settings: Settings) -> None:
    source_converters(settings.intake, settings.schema_registry)


_SERVERS: tuple[Check, ...] = (_check_kafka, _check_permissions, _check_redis)
_POLICIES: tuple[Check, ...] = (lambda settings: load_policies(settings.exporter.policies),)
_FILES: tuple[Check, ...] = (
    *_POLICIES,
    load_directory,
    _check_prices,
    _check_status_page,
    lambda settings: load_web_config(settings.exporter.web_config_file),
)
_KEY: tuple[Check, ...] = (
    lambda settings: settings.worker.customer_secret(),
    lambda settings: settings.worker.previous_customer_secret(),
)
# A client asks, such as `tokenpulse report`: it needs no key for customer ids, and no file.
ROLES: dict[str, tuple[Check, ...]] = {
    # Without the policies a worker counts, but their names may be counted under `__other__`.
    "worker": (*_KEY, *_POLICIES, *_SERVERS),
    "exporter": (*_FILES, _check_redis_as_reader),
    "client": (_check_kafka, _check_redis_as_reader),
    "intake": (_check_tokens, _check_sources, _check_kafka, _check_intake_permissions),
    "all": (*_KEY, *_FILES, _check_tokens, _check_sources, *_SERVERS),
}


def describe_redis(settings: Settings) -> Iterator[str]:
    """Yield of which kind Redis is, and its limits, a line each.

    Raises Unavailable if it does not answer.
    """
    facts = asyncio.run(check_redis(settings.redis, writes_state=False))
    yield facts.describe()
    yield from facts.limitations()


def problems(settings: Settings, role: str) -> Iterator[str]:
    """Yield the problems of a role's settings, one line each; none repeats another."""
    lines: set[str] = set()
    for check in ROLES[role]:
        try:
            check(settings)
        except TokenpulseError as error:
            for line in str(error).splitlines():
                # Two checks may find the same problem in one file.
                if line not in lines:
                    lines.add(line)
                    yield line
