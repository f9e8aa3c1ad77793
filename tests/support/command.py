"""The `tokenpulse` command, run in this process."""

from click.testing import CliRunner, Result

from streams.config.settings import Settings
from tokenpulse.cli.main import main
from tokenpulse.local.embedded import environment


def run(
    *arguments: object,
    settings: Settings | None = None,
    send_in: bytes | None = None,
    **variables: str,
) -> Result:
    """A command in this process, with these settings or the defaults."""
    own = environment(settings) if settings is not None else {}
    return CliRunner().invoke(
        main, [str(one) for one in arguments], input=send_in, env={**own, **variables}
    )


def assert_one_line(done: Result, *parts: str) -> None:
    """Status 2, and on stderr one line for a person, with these parts in it."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("tokenpulse: ")
    for part in parts:
        assert part in line
    assert "Traceback" not in line
