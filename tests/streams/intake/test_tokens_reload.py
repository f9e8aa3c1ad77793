"""The file of the tokens may change while the intake runs."""

import asyncio
from pathlib import Path

import pytest

from streams.config.settings import Intake
from streams.errors import ConfigError
from streams.intake import tokens_reload
from streams.intake.event_bodies import EventBodies
from streams.intake.tokens import Tokens
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
def reload(file: Path) -> TokensReload:
    return TokensReload(Intake(tokens_file=file), EventBodies(1).prepare)


def accepted(tokens: Tokens) -> set[str]:
    return {token for token in (OLD, NEW) if tokens.sender_of(f"Bearer {token}") is not None}


def test_senders_come_and_go_with_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_reload, "CHECK_INTERVAL_S", 0.01)

    async def run() -> None:
        read = asyncio.Event()
        reload = TokensReload(Intake(tokens_file=file), lambda sources: read.set())
        read.clear()
        task = asyncio.create_task(reload.run())
        await asyncio.sleep(0.05)
        assert (read.is_set(), accepted(reload.tokens)) == (False, {OLD})
        write(file, NEW, "litellm")
        await asyncio.wait_for(read.wait(), 30)
        assert accepted(reload.tokens) == {NEW}
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("content", ["", "senders: [", "senders: [{token: short, tenant: a}]"])
def test_a_file_that_cannot_be_used_changes_nothing(
    file: Path,
    reload: TokensReload,
    content: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file.write_text(content)
    reload.check()
    reload.check()
    assert accepted(reload.tokens) == {OLD}
    [line] = caplog.messages  # once, not at every check
    assert line.startswith(str(file))
    assert "short" not in line
    write(file, NEW)
    reload.check()
    assert accepted(reload.tokens) == {NEW}


def test_a_sender_of_a_source_that_does_not_exist_changes_nothing(
    file: Path, reload: TokensReload
) -> None:
    write(file, NEW, "no-such-mapping")
    with pytest.raises(ConfigError):
        EventBodies(1).prepare(["no-such-mapping"])
    reload.check()
    assert accepted(reload.tokens) == {OLD}


def test_a_file_that_is_removed_changes_nothing_until_it_is_there_again(
    file: Path, reload: TokensReload
) -> None:
    file.unlink()
    reload.check()
    assert accepted(reload.tokens) == {OLD}
    write(file, NEW)
    reload.check()
    assert accepted(reload.tokens) == {NEW}


def test_a_change_while_the_intake_starts_is_read(file: Path) -> None:
    # After the senders were read, and before the first check.
    reload = TokensReload(Intake(tokens_file=file), lambda sources: write(file, NEW))
    assert accepted(reload.tokens) == {OLD}
    reload.check()
    assert accepted(reload.tokens) == {NEW}


def test_a_source_that_can_be_read_later_is_tried_again(
    file: Path, reload: TokensReload, caplog: pytest.LogCaptureFixture
) -> None:
    mapping = file.with_name("gateway.sql")
    write(file, NEW, str(mapping))
    reload.check()
    reload.check()
    assert accepted(reload.tokens) == {OLD}
    [line] = caplog.messages
    assert str(mapping) in line
    # The file of the tokens stays as it is.
    mapping.write_text("SELECT line, r->'at' AS ended_at, 'a' AS model, '' AS outcome FROM records")
    reload.check()
    assert accepted(reload.tokens) == {NEW}


def test_a_check_that_fails_is_one_line_and_the_next_one_tries_again(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens_reload, "CHECK_INTERVAL_S", 0.01)
    tries: list[set[str]] = []
    failed, reads = asyncio.Event(), asyncio.Event()

    def prepare(sources: set[str]) -> None:
        tries.append(sources)
        if 1 < len(tries) < 5:
            failed.set()
            raise MemoryError(f"no memory for {NEW}")
        if len(tries) == 5:
            reads.set()

    async def run() -> None:
        reload = TokensReload(Intake(tokens_file=file), prepare)
        task = asyncio.create_task(reload.run())
        write(file, NEW)
        await asyncio.wait_for(failed.wait(), 30)
        assert accepted(reload.tokens) == {OLD}
        await asyncio.wait_for(reads.wait(), 30)
        assert accepted(reload.tokens) == {NEW}
        task.cancel()

    asyncio.run(run())
    [line] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith(f"{file}: got MemoryError")
    assert NEW not in line
