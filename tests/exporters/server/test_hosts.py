"""Host headers: names of this exporter, and those by which a web page could read it."""

import asyncio

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from exporters.server.hosts import AllowedHosts
from exporters.server.http import create_app
from exporters.server.refresher import Refresher
from tests.support.exporter_state import settings_for

LOOPBACK = ["localhost", "localhost:9464", "LOCALHOST", "127.0.0.1:9464", "127.8.9.1", "[::1]:9464"]
FOREIGN = ["evil.example", "evil.example:9464", "localhost.evil.example", "", "127.0.0.1.evil.com"]


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::", "10.0.0.5", "board.example"])
def test_loopback_names_are_allowed_and_foreign_ones_are_not(bound: str) -> None:
    hosts = AllowedHosts(bound)
    assert [name for name in LOOPBACK if not hosts.allow(name)] == []
    assert [name for name in FOREIGN if hosts.allow(name)] == []


def test_the_address_it_listens_on_is_allowed_and_all_of_them_if_it_listens_on_all() -> None:
    probes = ["10.0.0.5:9464", "10.0.0.6", "[fd00::1]:9464"]
    assert [AllowedHosts("10.0.0.5").allow(host) for host in probes] == [True, False, False]
    assert [AllowedHosts("127.0.0.1").allow(host) for host in probes] == [False] * 3
    for bound in ("0.0.0.0", "::", ""):
        assert [AllowedHosts(bound).allow(host) for host in probes] == [True] * 3
    assert AllowedHosts("board.example").allow("board.example:9464")


def test_an_address_is_allowed_in_each_of_its_forms() -> None:
    for hosts in (AllowedHosts("fd00:0:0:0:0:0:0:1"), AllowedHosts("127.0.0.1", ["FD00::0:1"])):
        assert hosts.allow("[fd00::1]:9464")
        assert not hosts.allow("[fd00::2]:9464")


def test_a_name_with_a_port_is_no_setting() -> None:
    for name in ("board.example:8443", "https://board.example", "[fd00::1]"):
        with pytest.raises(ValidationError, match="without scheme, port and brackets"):
            settings_for("redis://127.0.0.1:1/0", allowed_hosts=[name])
    for name in ("board.example", ".cluster.local", "fd00::1", "10.0.0.5", "*"):
        settings_for("redis://127.0.0.1:1/0", allowed_hosts=[name])


def test_names_of_the_setting_are_allowed() -> None:
    hosts = AllowedHosts("127.0.0.1", ["Exporter", "board.example.", ".cluster.local"])
    allowed = ["exporter:9464", "board.example", "board.example.", "a.b.cluster.local:80"]
    assert [host for host in allowed if not hosts.allow(host)] == []
    foreign = ["exporter.evil.example", "xboard.example", "cluster.local.evil.example"]
    assert [host for host in foreign if hosts.allow(host)] == []
    assert AllowedHosts("127.0.0.1", ["*"]).allow("any.example")


def test_a_page_of_another_name_reads_nothing_and_probes_are_answered() -> None:
    async def ask() -> dict[str, int]:
        app = create_app(Refresher(settings_for("redis://127.0.0.1:1/0"), {}))
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            answers = {}
            for path in ("/", "/metrics", "/api/v1/live", "/board/events", "/nothing", "/healthz"):
                headers = {"Host": "evil.example"}
                async with session.get(server.make_url(path), headers=headers) as answer:
                    answers[path] = answer.status
                    if answer.status == 403:
                        assert "exporter.allowed_hosts" in await answer.text()
            return answers

    answers = asyncio.run(ask())
    assert answers.pop("/healthz") == 503  # nothing refreshes here
    assert set(answers.values()) == {403}
