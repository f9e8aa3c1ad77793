"""TLS and users of the exporter's pages, and the file that names them."""

import asyncio
import base64
import shutil
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
import yaml
from aiohttp.test_utils import TestServer

from exporters.server import login as login_module
from exporters.server.http import create_app
from exporters.server.login import Guard, TooManyGuesses
from exporters.server.refresher import Refresher
from exporters.server.web_config import WebConfig, load_web_config
from streams.errors import ConfigError
from tests.support.certificates import Authority
from tests.support.exporter_state import settings_for
from tests.support.paths import ROOT
from tests.support.programs import find_program

EXAMPLE = ROOT / "deploy/prometheus/web-config.yml"
PAGES = ("/", "/metrics", "/healthz", "/readyz", "/no-such-page")
OPEN = [200, 200, 503, 503, 404]  # nothing refreshes here
CLOSED = [401, 401, 503, 503, 401]  # the health checks need no login


def hashed(password: str, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).replace(b"2b", prefix, 1).decode()


def basic(name: str, password: str) -> str:
    """The Authorization header of a login."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def login_headers(login: str | None) -> dict[str, str]:
    return {} if login is None else {"Authorization": login}


def config_file(directory: Path, **content: Any) -> Path:
    path = directory / "web-config.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def with_pages(config: WebConfig, ask: Callable[..., Awaitable[Any]]) -> Any:
    """What `ask(session, base)` finds at the pages behind `config`; no state can be read."""
    return asyncio.run(_with_pages(config, ask))


async def _with_pages(config: WebConfig, ask: Callable[..., Awaitable[Any]]) -> Any:
    refresher = Refresher(settings_for("redis://127.0.0.1:1/0"), {})
    server = TestServer(create_app(refresher, config), scheme="https" if config.tls else "http")
    await server.start_server(ssl=config.tls)
    try:
        async with aiohttp.ClientSession() as session:
            return await ask(session, server)
    finally:
        await server.close()


def statuses(config: WebConfig, login: str | None = None) -> list[int]:
    async def ask(session: aiohttp.ClientSession, server: TestServer) -> list[int]:
        found = []
        for page in PAGES:
            async with session.get(server.make_url(page), headers=login_headers(login)) as answer:
                found.append(answer.status)
        return found

    answers: list[int] = with_pages(config, ask)
    return answers


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


# --- users


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
def test_every_page_but_the_health_checks_asks_for_a_user(tmp_path: Path, prefix: bytes) -> None:
    config = load_web_config(
        config_file(tmp_path, basic_auth_users={"prometheus": hashed("right", prefix)})
    )
    assert statuses(config) == CLOSED
    assert statuses(config, basic("prometheus", "wrong")) == CLOSED
    assert statuses(config, basic("someone", "right")) == CLOSED
    assert statuses(config, basic("prometheus", "x" * 100)) == CLOSED
    assert statuses(config, basic("prometheus", "right")) == OPEN


def test_without_a_file_the_pages_are_open() -> None:
    assert statuses(load_web_config(None)) == OPEN


@pytest.mark.parametrize("header", [None, "", "Basic", "Basic %%%", "Bearer abc", "Basic Og=="])
def test_a_header_that_names_nobody_is_not_let_in(header: str | None) -> None:
    assert not asyncio.run(Guard({"prometheus": hashed("right")}).admits(header))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that bcrypt was asked about."""
    asked: list[bytes] = []
    real = bcrypt.checkpw

    def checkpw(password: bytes, against: bytes) -> bool:
        asked.append(password)
        return real(password, against)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return asked


def test_a_scraper_costs_bcrypt_once_and_a_wrong_password_each_time(compared: list[bytes]) -> None:
    guard = Guard({"prometheus": hashed("right"), "second": hashed("other")})

    async def story() -> None:
        for _ in range(3):
            assert await guard.admits(basic("prometheus", "right"))
        assert compared == [b"right"]
        for _ in range(2):
            assert not await guard.admits(basic("prometheus", "wrong"))
        assert not await guard.admits(basic("second", "right"))  # known, but of another user
        assert not await guard.admits(basic("nobody", "right"))
        assert compared == [b"right", b"wrong", b"wrong", b"right", b"right"]
        assert await guard.admits(basic("prometheus", "right"))
        assert len(compared) == 5

    asyncio.run(story())


def test_guesses_of_one_client_queue_up_only_so_far_and_known_users_pass_them_by(
    compared: list[bytes],
) -> None:
    guard = Guard({"prometheus": hashed("right")})

    async def story() -> None:
        assert await guard.admits(basic("prometheus", "right"), "10.0.0.1")
        guesses = [
            guard.admits(basic("prometheus", str(number)), "10.0.0.1") for number in range(200)
        ]
        guessing = asyncio.gather(*guesses, return_exceptions=True)
        await asyncio.sleep(0)
        assert await guard.admits(basic("prometheus", "right"), "10.0.0.1")
        answers = await guessing
        assert answers.count(False) == login_module.GUESSES_WAITING
        assert sum(isinstance(answer, TooManyGuesses) for answer in answers) == 192
        assert len(compared) == 1 + login_module.GUESSES_WAITING

    asyncio.run(story())


def test_guesses_get_slower_and_a_right_user_of_another_address_does_not_wait() -> None:
    guard = Guard({"prometheus": hashed("right")})

    async def guess(number: int) -> float:
        began_s = time.monotonic()
        assert not await guard.admits(basic("prometheus", str(number)), "10.0.0.1")
        return time.monotonic() - began_s

    async def story() -> None:
        took_s = [await guess(number) for number in range(login_module.FREE_GUESSES + 4)]
        assert max(took_s[: login_module.FREE_GUESSES]) < took_s[-1]
        assert took_s[-1] >= 4 * login_module.PENALTY_STEP_S
        guessing = asyncio.create_task(guess(99))
        await asyncio.sleep(0)
        began_s = time.monotonic()
        assert await guard.admits(basic("prometheus", "right"), "10.0.0.2")
        assert time.monotonic() - began_s < login_module.PENALTY_STEP_S
        # The right password is never refused, not even at the address that guesses.
        assert await guard.admits(basic("prometheus", "right"), "10.0.0.1")
        await guessing

    asyncio.run(story())


def test_a_guess_costs_the_same_work_whether_its_name_exists_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs: list[bytes] = []
    real = bcrypt.checkpw

    def checkpw(password: bytes, against: bytes) -> bool:
        costs.append(against.split(b"$")[2])
        return real(password, against)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    users = {f"user-{cost}": bcrypt.hashpw(b"right", bcrypt.gensalt(cost)) for cost in (4, 5, 6)}
    guard = Guard({name: text.decode() for name, text in users.items()})
    work = set()
    for name in [*users, "nobody", ""]:
        costs.clear()
        assert not asyncio.run(guard.admits(basic(name, "wrong"), name))
        work.add(tuple(costs))
    assert work == {(b"04", b"05", b"06")}
    for name in users:
        assert asyncio.run(guard.admits(basic(name, "right"), name))


def test_a_client_that_guesses_too_much_is_told_when_to_ask_again(tmp_path: Path) -> None:
    config = load_web_config(config_file(tmp_path, basic_auth_users={"a": hashed("right")}))

    async def ask(session: aiohttp.ClientSession, server: TestServer) -> list[int]:
        async def guess(number: int) -> int:
            headers = login_headers(basic("a", str(number)))
            async with session.get(server.make_url("/metrics"), headers=headers) as answer:
                assert (answer.status == 429) == ("Retry-After" in answer.headers)
                return answer.status

        return await asyncio.gather(*(guess(number) for number in range(60)))

    answers = with_pages(config, ask)
    assert set(answers) == {401, 429}


# --- TLS


def fetch(config: WebConfig, context: ssl.SSLContext) -> int:
    async def ask(session: aiohttp.ClientSession, server: TestServer) -> int:
        async with session.get(server.make_url("/metrics"), ssl=context) as answer:
            return answer.status

    status: int = with_pages(config, ask)
    return status


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.cert)


@pytest.mark.stack
def test_pages_over_tls_show_their_certificate(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("exporter")
    path = config_file(
        tmp_path,
        # Relative to where the file lies, as with Prometheus.
        tls_server_config={
            "cert_file": str(own.cert.relative_to(tmp_path)),
            "key_file": str(own.key.relative_to(tmp_path)),
            "min_version": "TLS13",
        },
    )
    config = load_web_config(path)
    assert fetch(config, trusting(authority)) == 200
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        fetch(config, trusting(Authority(tmp_path / "other", "other")))
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        fetch(config, old)


@pytest.mark.stack
def test_scrapers_can_be_asked_for_a_certificate(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("exporter")
    tls = {
        "cert_file": str(own.cert),
        "key_file": str(own.key),
        "client_ca_file": str(authority.cert),
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    config = load_web_config(config_file(tmp_path, tls_server_config=tls))
    with pytest.raises(aiohttp.ClientError):
        fetch(config, trusting(authority))
    scraper = authority.issue("prometheus")
    known = trusting(authority)
    known.load_cert_chain(scraper.cert, scraper.key)
    assert fetch(config, known) == 200


# --- the file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("tls_server_confg: {}", "tls_server_confg: not supported here; docs/security.md"),
        (
            "tls_server_config: {cert_file: a}",
            "tls_server_config.key_file: got nothing; this key is required",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [x]}",
            "tls_server_config.cipher_suites: got ['x']; not supported here",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}",
            "tls_server_config.min_version: got 'TLS10'; it should be 'TLS12' or 'TLS13'",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}",
            "tls_server_config: client_ca_file and a client_auth_type that verifies go together",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b}",
            "tls_server_config.cert_file: cannot use",
        ),
        ("basic_auth_users: {me: hunter2}", "basic_auth_users.me: not a bcrypt hash; make one"),
        ("basic_auth_users: {me: 7777}", "basic_auth_users.me: it should be a valid string"),
        ("http_server_config: {http2: true}", "http_server_config.http2: not supported here"),
        ("http_server_config: {headers: {X-Own: a}}", "http_server_config.headers.X-Own: "),
        ('http_server_config: {headers: {X-Frame-Options: "a\\nb"}}', "a header is one line"),
        ("basic_auth_users: {me: *hunter2}", "line 1, column 24: not YAML; "),
        ("[]", "write keys here"),
    ],
)
def test_a_file_that_cannot_be_kept_to_is_refused_in_one_line(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "web-config.yml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_web_config(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert "\n" not in line
    for secret in ("hunter2", "7777"):
        assert secret not in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^exporter\.web_config_file: .*: cannot be read: "):
        load_web_config(tmp_path / "absent.yml")


def test_headers_go_on_every_answer(tmp_path: Path) -> None:
    config = load_web_config(
        config_file(
            tmp_path,
            http_server_config={"headers": {"X-Frame-Options": "DENY"}},
            basic_auth_users={"prometheus": hashed("right")},
        )
    )

    async def ask(session: aiohttp.ClientSession, server: TestServer) -> list[str | None]:
        found = []
        for login in (None, basic("prometheus", "right")):
            for page in PAGES:
                async with session.get(
                    server.make_url(page), headers=login_headers(login)
                ) as answer:
                    found.append(answer.headers.get("X-Frame-Options"))
        return found

    assert with_pages(config, ask) == ["DENY"] * 10


@pytest.mark.stack
def test_prometheus_own_tool_and_we_read_the_shipped_example(
    tmp_path: Path, authority: Authority
) -> None:
    own = authority.issue("exporter")
    shutil.copy(own.cert, tmp_path / "exporter.crt")
    shutil.copy(own.key, tmp_path / "exporter.key")
    path = Path(shutil.copy(EXAMPLE, tmp_path))
    config = load_web_config(path)
    assert config.tls is not None
    assert list(config.users) == ["prometheus"]
    promtool = find_program("promtool")
    done = subprocess.run(
        [promtool, "check", "web-config", path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
