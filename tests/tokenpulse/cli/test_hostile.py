"""Every command with hostile arguments, files and settings: one line for a person, no traceback."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from streams.config.settings import Section, Settings
from tests.support import nested_aliases
from tests.support.command import run
from tokenpulse.cli.main import main

# They start servers, or processes: their options are tested with the settings below.
LONG_RUNNING = {"up", "exporter"}
TEXTS = (
    *("", " ", "\n", "\udcff", "\x1b[2J", "\x9b31m", "\u202e", "x" * 5_000, "../" * 2_000),
    *("-1", "0", "nan", "inf", "1e400", "1" * 14, "9" * 30, "1" * 5_000, "\u0663", "1.5"),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "999999999d", "{}", "[", "%s"),
)
FILES: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "lists.yaml": nested_aliases.LISTS.encode(),
    "merges.yaml": nested_aliases.MERGES.encode(),
    "inside-itself.yaml": b"version: &v {x: *v}\n",
    "deep.yaml": b"[" * 1_000,  # too deep for the parser
    "list.yaml": b"- 1\n",
    "wide.json": b'{"a":' * 3_000,
    "gzip": b"\x1f\x8b broken",
}
REFUSED: dict[str, Any] = {
    "TOKENPULSE_REDIS__URL": "redis://127.0.0.1:1/0",
    "TOKENPULSE_KAFKA__BOOTSTRAP": "127.0.0.1:1",
    "TOKENPULSE_WORKER__CUSTOMER_KEY": "0123456789abcdef",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refused connection is not tried again, and files are written here only."""
    monkeypatch.setattr("streams.store.servers.client.Retry", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*words, name))
        elif name not in LONG_RUNNING:
            yield " ".join((*words, name)), command


LEAVES = dict(leaves(main))


def usual(parameter: click.Parameter) -> str:
    """A value that is accepted."""
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    return "1" if isinstance(parameter.type, click.IntRange) else "2026-01-01T00:00Z"


def arguments(command: click.Command, tested: click.Parameter, value: str) -> list[str]:
    """A command line with one hostile value, and the usual ones that are required."""
    line, positional = [], []
    for parameter in command.params:
        text = value if parameter is tested else usual(parameter)
        if parameter is not tested and not parameter.required:
            continue
        if isinstance(parameter, click.Argument):
            positional.append(text)
        else:
            line.append(f"{parameter.opts[0]}={text}")
    return [*line, "--", *positional]


def assert_plain(done: Result, line: object) -> None:
    """The command ended by itself, and all it wrote is text that a terminal does not obey."""
    assert done.exception is None or isinstance(done.exception, SystemExit), (line, done.exception)
    assert done.exit_code in (0, 1, 2, 3), line
    assert "Traceback" not in done.output, line
    for text in done.stderr.splitlines():
        assert len(text) < 20_000, line
    if done.exit_code:
        assert done.stderr.strip(), line
    assert "\x1b" not in done.output, line


def cases(command: click.Command) -> Iterator[tuple[click.Parameter, str]]:
    tested = [
        parameter
        for parameter in command.params
        if not (isinstance(parameter, click.Option) and parameter.is_flag)
    ]
    return itertools.product(tested, (*TEXTS, *FILES))


@pytest.mark.parametrize("name", LEAVES)
def test_a_hostile_argument_is_one_line(name: str) -> None:
    """Every eleventh case; the others are in the slow test."""
    for parameter, value in itertools.islice(cases(LEAVES[name]), 0, None, 11):
        line = [*name.split(), *arguments(LEAVES[name], parameter, value)]
        assert_plain(run(*line, send_in=b"", **REFUSED), line)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAVES)
def test_every_hostile_argument_is_one_line(name: str) -> None:
    for parameter, value in cases(LEAVES[name]):
        line = [*name.split(), *arguments(LEAVES[name], parameter, value)]
        assert_plain(run(*line, send_in=b"", **REFUSED), line)


@pytest.mark.parametrize(
    "line",
    [
        *("--port=-1", "--port=65536", "--port=x", "--rate=nan", "--rate=inf", "--rate=0"),
        *("--rate=1e9", "--history=999999999d", "--history=11y", f"--port={'9' * 5_000}"),
    ],
)
def test_up_refuses_a_hostile_option_before_it_starts(line: str) -> None:
    done = run("up", line)
    assert_plain(done, line)
    assert done.exit_code == 2


# --- settings


def settings(section: type[Section] | type[Settings], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from settings(kind, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


VARIABLES = [*settings(Settings, "TOKENPULSE_")]
VALUES = (*TEXTS, *FILES)


def assert_plain_with(variable: str, value: str) -> None:
    line = f"{variable}={value[:40]!r}"
    assert_plain(run("topics", "create", **{**REFUSED, variable: value}), line)
    if variable.startswith("TOKENPULSE_REDIS"):
        assert_plain(run("partitions", "list", **{**REFUSED, variable: value}), line)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_hostile_setting_is_one_line(variable: str) -> None:
    """Every third value, each setting from another one on; the others are in the slow test."""
    for value in VALUES[VARIABLES.index(variable) % 3 :: 3]:
        assert_plain_with(variable, value)


@pytest.mark.slow
@pytest.mark.parametrize("variable", VARIABLES)
def test_every_hostile_setting_is_one_line(variable: str) -> None:
    for value in VALUES:
        assert_plain_with(variable, value)


@pytest.mark.parametrize("file", FILES)
def test_a_hostile_file_of_settings_is_one_line(file: str) -> None:
    done = run("--config", file, "topics", "create", **REFUSED)
    assert_plain(done, file)
    assert done.exit_code == 2
