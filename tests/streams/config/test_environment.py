"""Environment variables with a typing error are named; those of other programs are left alone."""

import os
from pathlib import Path

import pytest

from streams.config.settings import load_settings
from streams.errors import ConfigError


@pytest.fixture(autouse=True)
def no_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TOKENPULSE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TOKENPULSE_KAFKA_BOOTSTRAP", "TOKENPULSE_KAFKA__BOOTSTRAP"),
        ("TOKENPULSE_EXPORTR__PORT", "TOKENPULSE_EXPORTER__PORT"),
        ("TOKENPULSE_EXPORTERPORT", "TOKENPULSE_EXPORTER__PORT"),
        ("TOKENPULSE_WORKER_LIMITS_MODELS", "TOKENPULSE_WORKER__LIMITS__MODELS"),
        ("TOKENPULSE_CONFG", "TOKENPULSE_CONFIG"),
        ("tokenpulse_kafka_topic", "TOKENPULSE_KAFKA__TOPIC"),
    ],
)
def test_a_variable_that_resembles_a_setting_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert str(error.value) == f"{variable}: no such setting; did you mean {meant}?"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "kafka: {bootstap: a:1}",
            "kafka.bootstap: no such setting; did you mean bootstrap?",
        ),
        ("kafak: {topic: a}", "kafak: no such setting; did you mean kafka?"),
        (
            "kafka: {colour: red}",
            "kafka.colour: no such setting; docs/configuration.md lists them all",
        ),
        (
            "worker: {limits: {modles: 3}}",
            "worker.limits.modles: no such setting; did you mean models?",
        ),
    ],
)
def test_a_mistyped_key_of_a_file_is_an_error_that_names_the_setting(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_settings(path)
    assert str(error.value) == f"{path}: {problem}"


def test_a_variable_of_no_section_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENPULSE_BILLING__PRICE", "1")
    with pytest.raises(ConfigError, match=r"TOKENPULSE_BILLING__PRICE: no such setting; docs/"):
        load_settings()


def test_all_wrong_variables_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENPULSE_KAFKA_TOPIC", "a")
    monkeypatch.setenv("TOKENPULSE_REDIS_URL", "b")
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    "variable",
    [
        "TOKENPULSE_SERVICE_HOST",
        "TOKENPULSE_SERVICE_PORT_HTTP",
        "TOKENPULSE_PORT_9464_TCP_ADDR",
        "TOKENPULSE_EXPORTER_PORT",
        "TOKENPULSE_EXPORTER_PORT_9464_TCP_PROTO",
        "TOKENPULSE_EXPORTER_SERVICE_HOST",
        "TOKENPULSE_TEST_CACHE",
    ],
)
def test_variables_that_kubernetes_or_other_programs_set_are_ignored(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "tcp://10.0.0.1:9464")
    load_settings()


def test_a_value_of_a_misspelt_variable_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENPULSE_WORKER_CUSTOMER_KEY", "a-secret-of-32-bytes-a-secret-of")
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert "a-secret" not in str(error.value)
