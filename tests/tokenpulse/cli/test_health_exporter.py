"""`tokenpulse health exporter` with logins and TLS configured, over real exporters."""

from pathlib import Path

import bcrypt
import pytest
import yaml

from tests.support.certificates import Authority
from tests.support.command import run
from tests.support.exporter_http import OwnRedis, quick, write_now
from tests.support.exporter_process import ExporterProcess
from tests.support.servers import wait_until

USERS = {"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()}
KINDS = ["login", pytest.param("tls", marks=pytest.mark.stack)]
KINDS += [pytest.param("client certificates", marks=pytest.mark.stack)]


def web_config(directory: Path, kind: str) -> Path:
    content: dict[str, object] = {"basic_auth_users": USERS}
    if kind != "login":
        authority = Authority(directory / "ca")
        own = authority.issue("exporter")
        tls = {"cert_file": str(own.cert), "key_file": str(own.key)}
        if kind == "client certificates":
            tls |= {"client_ca_file": str(authority.cert)}
            tls |= {"client_auth_type": "RequireAndVerifyClientCert"}
        content["tls_server_config"] = tls
    file = directory / "web-config.yml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_an_exporter_with_logins_and_tls_is_healthy_once_it_is_ready(
    own_redis: OwnRedis, tmp_path: Path, kind: str
) -> None:
    settings = quick(own_redis.url, web_config_file=web_config(tmp_path, kind))
    with ExporterProcess(settings, tmp_path / "exporter.log") as process:

        def health() -> tuple[int, str]:
            done = run("health", "exporter", settings=process.settings)
            return done.exit_code, done.output

        status, said = health()
        assert (status, "no worker has counted" in said or "no reading" in said) == (1, True)
        write_now(settings)
        wait_until(lambda: health() == (0, "ok\n"), "it is ready", 60)
