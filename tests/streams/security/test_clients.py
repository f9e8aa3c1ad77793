"""Logins, secrets and topics: what is refused at start, and what is never said or written."""

import asyncio
import importlib.util
import json
import os
import ssl
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import redis
import yaml
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from click.testing import CliRunner
from pydantic import BaseModel, SecretStr

import streams
from streams.config.settings import Kafka, Redis, Settings, load_settings
from streams.errors import ConfigError, Unavailable
from streams.kafka.topics import check_topics, create_topics
from streams.security.clients import client_kwargs, redis_kwargs
from streams.worker.app import create_app
from tests.support.certificates import Authority
from tests.support.command import assert_one_line, run
from tests.support.event_samples import raw
from tests.support.paths import ROOT
from tests.support.servers import Broker, RedisServer
from tests.support.worker_process import (
    SECRET,
    State,
    WorkerProcess,
    dead_letters,
    headers,
    report,
    send,
    worker_settings,
)
from tokenpulse.cli.main import main

LOGIN = {"username": "worker", "password": "hunter2"}
MARKER = "Marker-Customer-4711"


def rejection(**kafka: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(overrides={"kafka": kafka})
    line = str(caught.value)
    assert "\n" not in line
    assert "hunter2" not in line
    return line


# --- logins


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        (
            {"security_protocol": "SASL_PLAINTEXT", **LOGIN},
            "kafka: security_protocol SASL_PLAINTEXT sends the login unencrypted; set "
            "SASL_SSL, or allow_sasl_without_tls: true",
        ),
        (LOGIN, "kafka: a login is given, but security_protocol is PLAINTEXT, which sends none"),
        ({"security_protocol": "SASL_SSL", "username": "me"}, "kafka: SASL_SSL needs a password"),
        ({"security_protocol": "SASL_SSL", "password": "hunter2"}, "needs a username"),
        (
            {"ssl_ca_file": "ca.crt"},
            "kafka: ssl files are given, but the connection is not encrypted",
        ),
        ({"security_protocol": "SSL", "ssl_cert_file": "a"}, "go together; set both or neither"),
        ({"security_protocol": "SASL_SSL", **LOGIN, "password_file": "f"}, "not both"),
        ({"security_protocol": "TLS"}, "kafka.security_protocol: got 'TLS'; it should be"),
    ],
)
def test_a_login_that_would_leak_or_not_be_used_is_refused(
    kafka: dict[str, Any], said: str
) -> None:
    assert said in rejection(**kafka)


def test_sasl_without_tls_is_refused_by_the_worker_before_it_connects() -> None:
    variables = {f"TOKENPULSE_KAFKA__{name.upper()}": value for name, value in LOGIN.items()}
    done = CliRunner().invoke(
        main, ["worker"], env={**variables, "TOKENPULSE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("tokenpulse: kafka: security_protocol SASL_PLAINTEXT sends")
    assert "hunter2" not in done.output


def test_plain_text_needs_no_arguments_and_sasl_without_tls_only_with_leave() -> None:
    assert client_kwargs(Kafka()) == {"security_protocol": "PLAINTEXT"}
    allowed = Kafka(security_protocol="SASL_PLAINTEXT", allow_sasl_without_tls=True, **LOGIN)
    assert client_kwargs(allowed) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker",
        "sasl_plain_password": "hunter2",
    }


@pytest.mark.stack
def test_tls_checks_certificate_and_host_and_trusts_only_the_authority_named(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("worker")
    kafka = Kafka(
        security_protocol="SASL_SSL",
        ssl_ca_file=authority.cert,
        ssl_cert_file=own.cert,
        ssl_key_file=own.key,
        **LOGIN,
    )
    context = client_kwargs(kafka)["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [dict(one["subject"][0])["commonName"] for one in context.get_ca_certs()] == [
        "authority"
    ]


def test_faust_and_all_our_clients_get_the_same_login(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(security_protocol="SASL_SSL", **LOGIN)
    app: Any  # what is looked at here, Faust's own types do not show
    app, _ = create_app(Settings(kafka=kafka, worker={"customer_key": SECRET}))
    auth = app.producer._settings_auth()
    assert auth["security_protocol"] == "SASL_SSL"
    assert auth["sasl_plain_password"] == "hunter2"
    assert auth["ssl_context"].check_hostname
    built: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "streams.kafka.transport.AIOKafkaConsumer", lambda **kwargs: built.append(kwargs)
    )
    app.consumer._thread._create_worker_consumer(app.transport)
    assert {name: built[0][name] for name in auth if name != "ssl_context"} == {
        name: value for name, value in auth.items() if name != "ssl_context"
    }
    assert built[0]["metadata_max_age_ms"] == 60_000


def test_files_that_cannot_be_used_are_one_line_each(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("hunter2")
    for kafka, said in (
        ({"ssl_ca_file": rubbish}, "kafka.ssl_ca_file: cannot use"),
        ({"ssl_ca_file": tmp_path / "absent"}, "No such file"),
        ({"ssl_cert_file": rubbish, "ssl_key_file": rubbish}, "kafka.ssl_cert_file: cannot use"),
        ({"password_file": tmp_path / "absent"}, "kafka.password_file: cannot read"),
        ({"password_file": Path(os.devnull)}, "is empty; write the password into it"),
    ):
        own = {"username": "me", "password": "x", **kafka}
        if "password_file" in kafka:
            del own["password"]
        with pytest.raises(ConfigError) as caught:
            client_kwargs(Kafka(security_protocol="SASL_SSL", **own))
        line = str(caught.value)
        assert said in line
        assert "\n" not in line
        assert "hunter2" not in line


def test_a_redis_login_stands_in_one_place() -> None:
    for redis_settings in (
        {"url": "redis://user:hunter2@host/0", "username": "me", "password": "hunter2"},
        {"username": "me"},
        {"password": "hunter2", "password_file": "f"},
        {"ssl_ca_file": "ca.crt"},
    ):
        with pytest.raises(ConfigError, match=r"^redis: ") as caught:
            load_settings(overrides={"redis": redis_settings})
        assert "hunter2" not in str(caught.value)
    given = redis_kwargs(Redis(username="me", password="hunter2"))
    assert (given["username"], given["password"]) == ("me", "hunter2")


# --- secrets


def test_every_secret_can_be_given_as_a_file() -> None:
    for name, field in Settings.model_fields.items():
        section = cast("type[BaseModel]", field.annotation)
        for key, setting in section.model_fields.items():
            if SecretStr in get_args(setting.annotation):
                assert f"{key}_file" in section.model_fields, f"{name}.{key}"
    assert "password_file" in Redis.model_fields  # for a url without a password


@pytest.mark.parametrize(
    "variables",
    [
        {"KAFKA__PASSWORD": "hunter2"},
        {"KAFKA__PASWORD": "hunter2"},
        {"KAFKA__SASL_PASSWORD": "hunter2"},
        {"WORKER__KEY": "hunter2"},
        {"WORKER__CUSTOMER_KEY": "hunter2", "WORKER__CUSTOMER_KEY_FILE": "f"},
        {"REDIS__URI": "redis://user:hunter2@host"},
        {"REDIS__URL": "redis://user:hunter2@host", "REDIS__PASSWORD": "x"},
        {"KAFKA": '"hunter2"'},
        {"KAFKA": '{"password": "hunter2"'},
        {"KAFKA": '{"password": ["hunter2"]}'},
    ],
)
def test_a_wrong_setting_is_told_without_its_secret(variables: dict[str, str]) -> None:
    env = {f"TOKENPULSE_{name}": value for name, value in variables.items()}
    done = CliRunner().invoke(main, ["report"], env=env)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("tokenpulse: ")
    assert "hunter2" not in done.output + repr(done.exception)


@pytest.mark.parametrize("text", ["*hunter2", "!hunter2", "[hunter2", "{hunter2: "])
def test_a_settings_file_that_is_not_yaml_is_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"kafka:\n  password: {text}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert str(caught.value).startswith(f"{file}: line ")
    assert ": not YAML; " in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_is_shown_of_the_settings_holds_no_secret() -> None:
    settings = Settings(
        kafka={"security_protocol": "SASL_SSL", **LOGIN},
        redis={"url": "rediss://user:hunter2@host:1/0?password=hunter2"},
        worker={"customer_key": "hunter2"},
    )
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert "hunter2" not in text + repr(settings)
    plain = settings.model_dump(mode="json")
    assert plain["redis"]["url"] == "rediss://(credentials)@host:1/0?(options)"
    assert plain["kafka"]["password"] == "**********"


def test_a_worker_shows_its_secrets_to_nobody(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(SECRET)
    settings = worker_settings(broker, redis_server.url, customer_key=None, customer_key_file=key)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        State(settings, redis_client).wait_for(send(settings.kafka, [(None, raw())]))
        process = Path(f"/proc/{worker.pid}")
        if process.exists():  # Linux
            assert SECRET.encode() not in (process / "cmdline").read_bytes()
            assert SECRET.encode() not in (process / "environ").read_bytes()
        assert worker.stop() == 0
        assert SECRET not in worker.log


# --- customer ids


def test_a_customer_id_stays_in_the_event(
    broker: Broker, redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    settings = worker_settings(broker, redis_server.url)
    records = [
        (None, raw(request_id="good", customer_id=MARKER)),
        (None, raw(request_id="bad label", customer_id=MARKER + "\u0000<")),
        (None, raw(request_id="long", customer_id=MARKER * 20)),
        (None, raw(request_id="not text", customer_id=[MARKER])),
        (None, raw(request_id="other field", customer_id=MARKER, outcome="no such outcome")),
        (None, raw(request_id="cut short", customer_id=MARKER)[:-2]),
        (None, b'{"customer_id": "' + MARKER.encode() + b'\xff"}'),
    ]
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        State(settings, redis_client).wait_for(send(settings.kafka, records))
        # The last three are rejected; a wrong customer id alone costs only the field.
        letters = dead_letters(settings.kafka, distinct=3)
        assert worker.stop() == 0
        said = {"log": worker.log}
    said |= {f"letter {number}": str(headers(one)) for number, one in enumerate(letters)}
    said["report"] = json.dumps(report(settings))
    for name in cast("list[bytes]", redis_client.keys("tp:*")):
        said[name.decode()] = repr(content(redis_client, name))
    assert any("series" in text for name, text in said.items() if name.startswith("tp:"))
    assert [where for where, text in said.items() if MARKER in text] == []
    assert all(MARKER.encode() in one.value for one in letters)  # byte for byte, where it may be


def content(client: redis.Redis, name: bytes) -> Any:
    return client.hgetall(name) if client.type(name) == b"hash" else client.smembers(name)


def test_messages_are_bytes_and_nothing_is_ever_unpickled() -> None:
    app, _ = create_app(Settings(worker={"customer_key": SECRET}))
    assert app.conf.key_serializer == app.conf.value_serializer == "raw"
    for topic in app.topics:
        assert topic is not None
    package = Path(streams.__file__).parent
    for path in [*package.rglob("*.py"), *(ROOT / "exporters").rglob("*.py")]:
        assert "pickle" not in path.read_text(), path


# --- topics


def test_the_archive_is_compacted_and_the_broker_stamps_the_events(broker: Broker) -> None:
    kafka = broker.new_kafka(partitions=3)
    kafka = kafka.model_copy(update={"archive_topic": f"{kafka.topic}.archive"})
    made = asyncio.run(create_topics(Settings(kafka=kafka)))
    assert [(one.name, one.partitions, one.created) for one in made][2:] == [
        (kafka.archive_topic, 3, True)
    ]
    assert asyncio.run(config(broker, kafka.topic))["message.timestamp.type"] == "LogAppendTime"
    archive_config = asyncio.run(config(broker, kafka.archive_topic))
    assert (archive_config["cleanup.policy"], archive_config["retention.ms"]) == ("compact", "-1")
    asked = kafka.model_copy(update={"retention_h": 1.0})
    events, letters, archive = asyncio.run(create_topics(Settings(kafka=asked)))
    assert events.differences == (("retention.ms", "3456000000", "3600000"),)
    assert str(events) == (
        f"{kafka.topic}: already there with 3 partitions, left alone; retention.ms is 3456000000, "
        "not 3600000: change that with kafka-configs, or leave it if it is meant"
    )
    assert letters.differences == (("retention.ms", "604800000", "3600000"),)
    assert archive.differences == ()


async def config(broker: Broker, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        [answer] = await admin.describe_configs(asked)
        [(_, _, _, _, entries)] = answer.resources
        return {name: value for name, value, *_ in entries}
    finally:
        await admin.close()


@pytest.mark.parametrize("setting", ["dlq_topic", "archive_topic"])
def test_no_topic_has_two_uses(broker: Broker, setting: str) -> None:
    kafka = Kafka(bootstrap=broker.bootstrap, topic="same", **{setting: "same"})
    with pytest.raises(Unavailable, match=rf"^kafka\.{setting}: got 'same', which is kafka\.topic"):
        asyncio.run(create_topics(Settings(kafka=kafka)))


def test_a_worker_without_its_topic_says_so_and_makes_none(
    broker: Broker, redis_server: RedisServer
) -> None:
    made = worker_settings(broker, redis_server.url, archive_interval_s=3_600)
    for setting in ("topic", "dlq_topic", "archive_topic"):
        kafka = made.kafka.model_copy(update={setting: f"nobody-made-{setting}"})
        done = run("worker", settings=made.model_copy(update={"kafka": kafka}))
        assert_one_line(done, f"tokenpulse: nobody-made-{setting}: no such topic at ")
        assert done.stderr.endswith(f"set kafka.{setting}\n")
    assert not any(name.startswith("nobody-made") for name in asyncio.run(names(broker)))


def test_without_an_archive_its_topic_is_not_needed(broker: Broker) -> None:
    kafka = broker.new_kafka().model_copy(update={"archive_topic": "nobody-made-this-either"})
    asyncio.run(check_topics(Settings(kafka=kafka, worker={"archive_interval_s": 0})))
    with pytest.raises(Unavailable, match="no such topic"):
        asyncio.run(check_topics(Settings(kafka=kafka)))


async def names(broker: Broker) -> set[str]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)
    await consumer.start()
    try:
        found: set[str] = await consumer.topics()
        return found
    finally:
        await consumer.stop()


# --- audit


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([{"name": "a", "skip_reason": "not found"}] * 2, 0, "audit: not run: the advisory"),
        ([{"name": "a", "vulns": []}], 0, "audit: no known vulnerability in 1 dependencies"),
        ([{"name": "a", "skip_reason": "x"}, {"name": "b", "vulns": []}], 1, "a: not looked up"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}],
            1,
            "a 1: PYSEC-1, fixed in 2",
        ),
    ],
)
def test_an_audit_that_asked_nobody_is_no_clean_bill(
    found: list[dict[str, Any]], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None
    assert spec.loader is not None
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    assert audit.judge(found) == status
    assert said in capsys.readouterr().out
