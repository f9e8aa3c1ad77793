"""The file of the tokens may change while the intake runs."""

import asyncio
from pathlib import Path

import pytest

from streams.config.settings import Intake
from streams.errors import ConfigError
from streams.intake import tokens_reload
from streams.intake.event_bodies import EventBodies
from streams.intake.tokens import Tokens, load_tokens
from streams.intake.tokens_reload import TokensReload

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


def write(file: Path, token: str, source: str = "events") -> None:
    file.write_text(f"senders:\n  - {{token: {token}, tenant: gateway, source: {source}}}\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.yaml"
    write(file, OLD)
    return file


@pytest.fixture
def tokens(file: Path) -> Tokens:
    return load_tokens(Intake(tokens_file=file))


@pytest.fixture
def reload(file: Path, tokens: Tokens) -> TokensReload:
    return TokensReload(Intake(tokens_file=file), tokens, EventBodies(1).prepare)


def accepted(tokens: Tokens) -> set[str]:
    return {token for token in (OLD, NEW) if tokens.sender_of(f"Bearer {token}") is not None}


def test_senders_come_and_go_with_the_file(
    file: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_reload, "CHECK_INTERVAL_S", 0.01)

    async def run() -> None:
        read = asyncio.Event()
        reload = TokensReload(Intake(tokens_file=file), tokens, lambda sources: read.set())
        task = asyncio.create_task(reload.run())
        await asyncio.sleep(0.05)
        assert (read.is_set(), accepted(tokens)) == (False, {OLD})
        write(file, NEW, "litellm")
        await asyncio.wait_for(read.wait(), 30)
        assert accepted(tokens) == {NEW}
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("content", ["", "senders: [", "senders: [{token: short, tenant: a}]"])
def test_a_file_that_cannot_be_used_changes_nothing(
    file: Path,
    tokens: Tokens,
    reload: TokensReload,
    content: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file.write_text(content)
    reload.check()
    reload.check()
    assert accepted(tokens) == {OLD}
    [line] = caplog.messages  # once, not at every check
    assert line.startswith(str(file))
    assert "short" not in line
    write(file, NEW)
    reload.check()
    assert accepted(tokens) == {NEW}


def test_a_sender_of_a_source_that_does_not_exist_changes_nothing(
    file: Path, tokens: Tokens, reload: TokensReload
) -> None:
    write(file, NEW, "no-such-mapping")
    with pytest.raises(ConfigError):
        EventBodies(1).prepare(["no-such-mapping"])
    reload.check()
    assert accepted(tokens) == {OLD}


def test_a_file_that_is_removed_changes_nothing_until_it_is_there_again(
    file: Path, tokens: Tokens, reload: TokensReload
) -> None:
    file.unlink()
    reload.check()
    assert accepted(tokens) == {OLD}
    write(file, NEW)
    reload.check()
    assert accepted(tokens) == {NEW}
