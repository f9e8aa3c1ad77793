"""docker-compose.yml: valid, closed, bounded, and about settings that exist."""

import json
import os
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import jsonschema
import pytest
import yaml
from click import Command, Context, Group

from streams.config.settings import Settings, load_settings
from streams.intake.app import SHUTDOWN_S
from streams.intake.delivery import GROUP_DEADLINE_S
from streams.intake.tokens import load_tokens
from streams.worker.app import ENDING_DEADLINE_S
from tests.support.checks import not_none
from tests.support.compose import document, environment_of, mounts_of, secrets_of
from tests.support.paths import ROOT
from tokenpulse.cli.main import main

DOCUMENT = document()
SERVICES = DOCUMENT["services"]
ONCE = ("topics", "rules", "operator")  # they work, and end
PUBLISHED = {"grafana": 3000, "exporter": 9464, "intake": 4318}
VENDORED_SCHEMA = "builtin_schemas/vendor/compose-spec.json"
every_service = pytest.mark.parametrize("name", SERVICES)


def test_it_follows_the_compose_specification() -> None:
    # The package's schemas without the package: its code wants another click than Faust does.
    found = find_spec("check_jsonschema")
    assert found is not None
    [package] = not_none(found.submodule_search_locations)
    schema = json.loads((Path(package) / VENDORED_SCHEMA).read_text())
    errors = jsonschema.validators.validator_for(schema)(schema).iter_errors(DOCUMENT)
    assert [f"{list(error.absolute_path)}: {error.message}" for error in errors] == []


def test_all_that_the_issue_wants_is_there() -> None:
    wanted = {"kafka", "redis", "topics", "worker", "exporter", "prometheus", "alertmanager"}
    wanted |= {"intake"}
    assert wanted | {"grafana", "simulator"} <= set(SERVICES)
    assert SERVICES["simulator"]["profiles"] == ["simulate"]
    always = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert wanted | {"grafana"} <= always


@every_service
def test_an_image_is_pinned_by_its_full_version(name: str) -> None:
    image, _, version = SERVICES[name]["image"].partition(":")
    assert "." not in image.split("/")[0]  # no registry is named
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-[a-z]+)?(@sha256:[0-9a-f]{64})?", version), version


def test_our_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [built] = [one["image"] for one in SERVICES.values() if "build" in one]  # once, not per service
    assert built == f"tokenpulse:{project['version']}"


def test_kafka_is_of_the_version_that_the_tests_run() -> None:
    lock = (ROOT / "tests/kafka/jars.sha256").read_text()
    assert f" kafka_2.13-{SERVICES['kafka']['image'].partition(':')[2]}.jar\n" in lock


@every_service
def test_a_service_is_locked_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["init"] is True
    user, group = map(int, service["user"].split(":"))
    assert user > 0
    assert group > 0 or name == "grafana"  # its image wants group 0
    for key in ("pid", "ipc", "devices", "userns_mode"):
        assert key not in service
    assert not [source for source, _, _ in mounts_of(service) if "docker.sock" in source]


@every_service
def test_a_service_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["memswap_limit"] == service["mem_limit"]  # else it may swap as much again
    assert 0 < service["cpus"] <= 2
    assert 0 < service["pids_limit"] <= 512
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    for one in service["tmpfs"]:
        assert "size=" in one


def megabytes(text: str) -> int:
    return int(text[:-1]) * {"m": 1, "g": 1_024}[text[-1]]


def test_limits_are_above_what_each_may_use_by_its_own_settings() -> None:
    assert megabytes(SERVICES["worker"]["mem_limit"]) == 768  # docs/capacity.md
    conf = (ROOT / "deploy/redis/redis.conf").read_text()
    [most] = re.findall(r"^maxmemory (\d+)gb$", conf, re.MULTILINE)
    assert megabytes(SERVICES["redis"]["mem_limit"]) > int(most) * 1_024
    start = (ROOT / "deploy/kafka/start.sh").read_text()
    [heap] = re.findall(r"-Xmx(\d+g)", start)
    assert megabytes(SERVICES["kafka"]["mem_limit"]) >= 2 * megabytes(heap)


def test_the_intake_has_room_for_all_requests_in_transit() -> None:
    in_flight = settings_of("intake").intake.max_in_flight_bytes
    assert megabytes(SERVICES["intake"]["mem_limit"]) * 1_048_576 >= 2 * in_flight


def test_the_intake_accepts_the_token_that_make_secrets_made(made_secrets: Path) -> None:
    file = made_secrets / "intake_tokens"
    [sender] = yaml.safe_load(file.read_text())["senders"]
    tokens = load_tokens(settings_of("intake").intake.model_copy(update={"tokens_file": file}))
    found = tokens.sender_of(f"Bearer {sender['token']}")
    assert found is not None
    assert found.tenant == "default"


def test_the_intake_has_time_to_deliver_what_it_received() -> None:
    grace_s = seconds(SERVICES["intake"]["stop_grace_period"])
    assert grace_s > SHUTDOWN_S + GROUP_DEADLINE_S


def test_a_worker_has_time_for_its_last_checkpoint() -> None:
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > ENDING_DEADLINE_S + 10


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@every_service
def test_a_service_starts_again_and_its_health_is_asked(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    if name in ONCE:
        assert check == {"disable": True}
        assert service["restart"] in ("no", "on-failure:5")
        return
    assert service["restart"] == "unless-stopped"
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    for key in ("interval", "timeout", "start_period", "start_interval"):
        assert seconds(check[key]) > 0
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert seconds(service["stop_grace_period"]) >= 10


@every_service
def test_what_a_service_waits_for_can_become_so(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        condition = how["condition"]
        assert (condition == "service_completed_successfully") == (other in ONCE)
        assert not SERVICES[other].get("profiles"), f"{other} may not run"


@every_service
def test_only_grafana_the_board_and_the_intake_are_published_and_on_loopback_only(
    name: str,
) -> None:
    ports = SERVICES[name].get("ports", [])
    number = PUBLISHED.get(name)
    assert ports == ([] if number is None else [f"127.0.0.1:{number}:{number}"])
    assert SERVICES[name].get("network_mode") in (None, "none")


def test_only_what_must_can_reach_the_outside() -> None:
    closed = {name for name, one in DOCUMENT["networks"].items() if one.get("internal")}
    open_to = {
        name: set(service.get("networks", [])) - closed
        for name, service in SERVICES.items()
        if set(service.get("networks", [])) - closed
    }
    front = {name: {"front"} for name in PUBLISHED}
    assert open_to == {**front, "alertmanager": {"outside"}}
    assert "data" not in SERVICES["grafana"]["networks"]
    assert "data" not in SERVICES["prometheus"]["networks"]


@every_service
def test_everything_named_is_defined_and_every_file_mounted_is_there(name: str) -> None:
    service = SERVICES[name]
    for network in service.get("networks", []):
        assert network in DOCUMENT["networks"]
    for secret, _ in secrets_of(service):
        assert secret in DOCUMENT["secrets"]
    for source, target, read_only in mounts_of(service):
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert read_only, f"{source}: the checkout is not written to"
        else:
            assert source in DOCUMENT["volumes"]


@pytest.mark.parametrize("kind", ["networks", "volumes", "secrets"])
def test_everything_defined_is_used(kind: str) -> None:
    used: set[str] = set()
    for service in SERVICES.values():
        used |= {
            "networks": set(service.get("networks", [])),
            "volumes": {source for source, _, _ in mounts_of(service)},
            "secrets": {secret for secret, _ in secrets_of(service)},
        }[kind]
    assert set(DOCUMENT[kind]) <= used


def test_make_secrets_makes_every_secret_and_they_stay_out_of_git(made_secrets: Path) -> None:
    assert made_secrets.stat().st_mode & 0o777 == 0o700
    for secret in DOCUMENT["secrets"].values():
        path = Path(secret["file"])
        assert path.parent == Path("deploy/secrets")
        made = made_secrets / path.name
        assert made.is_file()
        assert made.stat().st_mode & 0o777 == 0o644  # by whichever user a container has
    ignored = (ROOT / "deploy/.gitignore").read_text().splitlines()
    assert "/secrets/" in ignored


def test_secrets_that_are_there_stay_and_a_changed_password_reaches_redis(
    made_secrets: Path,
) -> None:
    key = (made_secrets / "customer_key").read_text()
    (made_secrets / "redis_worker_password").write_text("another, and long enough\n")
    before = (made_secrets / "redis_users_acl").read_text()
    make_secrets(made_secrets)
    after = (made_secrets / "redis_users_acl").read_text()
    assert (made_secrets / "customer_key").read_text() == key
    changed = [
        line
        for line, earlier in zip(after.splitlines(), before.splitlines(), strict=True)
        if line != earlier
    ]
    assert [line.split()[1] for line in changed] == ["worker"]
    assert "SHA256" not in after


def make_secrets(directory: Path) -> None:
    script = ROOT / "deploy/make-secrets.sh"
    subprocess.run(["bash", script, directory], check=True, capture_output=True)


@pytest.fixture
def made_secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    make_secrets(directory)
    return directory


def test_no_secret_stands_in_the_environment() -> None:
    for name, service in SERVICES.items():
        for variable in environment_of(service):
            hidden = re.search(r"PASSWORD|SECRET|KEY|TOKEN(?!PULSE)", variable)
            assert not hidden or variable.endswith("_FILE"), f"{name}: {variable}"


OURS = [name for name, service in SERVICES.items() if "build" in service]


def settings_of(name: str) -> Settings:
    with patch.dict(os.environ, environment_of(SERVICES[name]), clear=True):
        return load_settings()


@pytest.mark.parametrize("name", OURS)
def test_the_environment_is_settings_that_exist(name: str) -> None:
    service = SERVICES[name]
    for variable in environment_of(service):
        assert variable.startswith("TOKENPULSE_")
        section, _, key = variable.removeprefix("TOKENPULSE_").lower().partition("__")
        assert key in type(getattr(Settings(), section)).model_fields, variable
    settings = settings_of(name)
    mounted = {target for _, target in secrets_of(service)}
    asked = {
        str(file)
        for file in (
            *(settings.redis.password_file, settings.redis.ssl_ca_file),
            settings.worker.customer_key_file,
            settings.intake.tokens_file,
        )
        if file is not None
    }
    assert asked == mounted


@pytest.mark.parametrize("name", OURS)
def test_addresses_are_those_of_services(name: str) -> None:
    settings, own = settings_of(name), set(SERVICES[name].get("networks", []))
    if "kafka" in environment_of(SERVICES[name]).get("TOKENPULSE_KAFKA__BOOTSTRAP", ""):
        assert settings.kafka.bootstrap == "kafka:9092"
        assert own & set(SERVICES["kafka"]["networks"])
    if settings.redis.username is not None:
        assert settings.redis.url == "rediss://redis:6379/0"
        assert f"user {settings.redis.username} on " in (
            (ROOT / "deploy/redis/users.acl").read_text()
        )
        assert own & set(SERVICES["redis"]["networks"])


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    command: Command | None = main
    context = Context(main)
    for word in SERVICES[name]["command"]:
        if word.startswith("-"):
            break
        assert isinstance(command, Group)
        command = command.get_command(context, word)
        assert command is not None, word


def test_rules_are_built_of_the_policies_that_the_exporter_has() -> None:
    command = SERVICES["rules"]["command"]
    built = [one.removeprefix("--policy=") for one in command if one.startswith("--policy=")]
    assert tuple(built) == settings_of("exporter").exporter.policies


def test_links_in_alerts_lead_to_where_grafana_is_told_to_be() -> None:
    there = document({"GRAFANA_URL": "https://grafana.here"})["services"]
    assert environment_of(there["grafana"])["GF_SERVER_ROOT_URL"] == "https://grafana.here"
    assert "--dashboards=https://grafana.here" in there["rules"]["command"]


def test_prometheus_finds_its_rules_and_its_targets_by_their_names() -> None:
    mounted = {target: source for source, target, _ in mounts_of(SERVICES["prometheus"])}
    [option] = [one for one in SERVICES["prometheus"]["command"] if "--config.file=" in one]
    config = option.removeprefix("--config.file=")
    loaded = yaml.safe_load((ROOT / mounted[config]).read_text())
    [pattern] = loaded["rule_files"]
    assert os.path.normpath(Path(config).parent / Path(pattern).parent) in mounted
    assert mounted[os.path.normpath(Path(config).parent / Path(pattern).parent)] == "rules"
    targets = {
        target
        for job in loaded["scrape_configs"]
        for given in job.get("static_configs", [])
        for target in given["targets"]
    }
    # It scrapes itself too, so that alerts see whether it can evaluate its rules.
    assert targets == {"localhost:9090", "alertmanager:9093", "exporter:9464", "intake:4318"}
    for host, port in (target.split(":") for target in targets - {"localhost:9090"}):
        assert PUBLISHED.get(host, int(port)) == int(port)
        assert set(SERVICES[host]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_prometheus_finds_every_worker_of_a_scaled_service() -> None:
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    [job] = [job for job in yaml.safe_load(text)["scrape_configs"] if "dns_sd_configs" in job]
    [found] = job["dns_sd_configs"]
    [host] = found["names"]
    own = SERVICES[host]["environment"]
    assert (found["type"], found["port"]) == ("A", int(own["TOKENPULSE_WORKER__METRICS_PORT"]))
    assert own["TOKENPULSE_WORKER__METRICS_HOST"] == "0.0.0.0"
    assert set(SERVICES[host]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_alertmanager_finds_every_file_that_it_is_told_to_read() -> None:
    mounted = {target: source for source, target, _ in mounts_of(SERVICES["alertmanager"])}
    text = (ROOT / mounted["/etc/alertmanager"] / "alertmanager.yml").read_text()
    asked = set(re.findall(r"/run/secrets/\w+", text))
    assert asked == {target for _, target in secrets_of(SERVICES["alertmanager"])}


def test_grafana_lets_nobody_in_without_a_password() -> None:
    variables = environment_of(SERVICES["grafana"])
    assert variables["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert variables["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert variables["GF_SECURITY_ADMIN_PASSWORD__FILE"] in {
        target for _, target in secrets_of(SERVICES["grafana"])
    }
    asked = {
        name
        for file in (ROOT / "grafana/provisioning").rglob("*.y*ml")
        for name in re.findall(r"(?<!\$)\$\{(\w+)\}", file.read_text())
    }
    assert asked <= set(variables)


def test_more_workers_can_be_started() -> None:
    worker = SERVICES["worker"]
    for key in ("container_name", "ports", "hostname"):
        assert key not in worker
    assert settings_of("worker").kafka.partitions >= 8
