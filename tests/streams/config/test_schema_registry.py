"""Settings of the schema registry: what would leak a login, or cannot be meant, is rejected."""

from typing import Any

import pytest

from streams.config.settings import ConfigError, load_settings

LOGIN = {"username": "me", "password": "hunter2"}
HTTP, HTTPS = {"url": "http://registry:8081"}, {"url": "https://registry"}


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        (HTTP | LOGIN, "schema_registry: the url sends the login unencrypted; write https://"),
        ({"url": "HTTP://registry"} | LOGIN, "the url sends the login unencrypted"),
        (HTTPS | {"username": "me"}, "username and a password go together"),
        (HTTPS | {"password": "hunter2"}, "username and a password go together"),
        (HTTPS | LOGIN | {"password_file": "f"}, "give password or password_file, not both"),
        (HTTP | {"ssl_ca_file": "ca.crt"}, "ssl_ca_file is given, but the url is not encrypted"),
        ({"url": "https://me:hunter2@registry"}, "it has a login; write that into username"),
        ({"url": "registry:8081"}, "not an address of a registry; write http://host:8081"),
        ({"url": "https://registry:port"}, "not an address; write http://host:8081"),
        ({"files": [{"id": 7, "path": "a"}, {"id": 7, "path": "b"}]}, "files has an id twice"),
        ({"files": [{"id": 2**32, "path": "a"}]}, "less than 4294967296"),
    ],
)
def test_settings_that_leak_or_contradict_each_other_are_rejected(
    registry: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(overrides={"schema_registry": registry})
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "registry", [HTTPS | LOGIN, HTTP, HTTP | LOGIN | {"allow_login_without_tls": True}]
)
def test_a_login_is_sent_with_tls_or_with_leave(registry: dict[str, Any]) -> None:
    section = load_settings(overrides={"schema_registry": registry}).schema_registry
    assert section.login_password() == registry.get("password")
