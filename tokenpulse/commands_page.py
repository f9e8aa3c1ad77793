"""docs/commands.md: all commands, which servers they ask, their exit statuses, shell completion."""

from collections.abc import Iterator

import click

from streams.events.page import markdown_table
from streams.watchdog import EXIT_CODE as WATCHDOG

# Exit statuses of all commands.
COMMON = {
    0: "the command did what it was asked",
    1: "a defect, with a traceback; or Ctrl-C at a question",
    2: "it could not run: an argument, setting or file cannot be used, or a server does not "
    "answer; standard error has one line for each problem",
}
# Further statuses of some commands.
OWN = {
    "daily": {1: "with `--send`: a delivery failed; the next run repeats it"},
    "exporter": {WATCHDOG: "its event loop stood still, so the watchdog ended it; start it again"},
    "health events": {1: "Kafka received no event in that time"},
    "health exporter": {1: "the exporter is not ready"},
    "health intake": {1: "the intake is not ready"},
    "health worker": {1: "the worker makes no progress"},
    "partitions move": {1: "no worker acknowledged it in time, or the partition is halted again"},
    "partitions resume": {1: "no worker acknowledged it in time, or the partition is halted again"},
    "partitions set-watermark": {1: "no worker acknowledged it in time, or the worker rejected it"},
    "policy check": {1: "an objective would stay unknown, as the workers do not count its limits"},
    "policy import-openslo": {1: "a part of the file was left out; standard error names it"},
    "prices diff": {1: "the lists differ"},
    "prices explain": {1: "the request has no price"},
    "prices rate": {1: "a request has no price; its line says why"},
    "replay": {
        1: "no row was counted, or some rows were neither counted nor reported",
        3: "more than `--max-unmapped` rows (default 0) could not be mapped",
    },
    "rules build": {1: "with `--check`: a file would change"},
    "scenario KIND": {1: "no simulator acknowledged it in time; it is removed"},
    "scenario stop": {1: "no simulator stopped it in time"},
    "state check": {1: "a stored field is damaged"},
    "state repair": {1: "a partition stays halted, or no worker acknowledged it in time"},
    "try": {1: "no shipped mapping fits the file, or the named one has no event"},
    "worker": {
        1: "it cannot continue, and its log has the reason; start it again",
        WATCHDOG: "its event loop stood still, so the watchdog ended it; start it again",
    },
}
_PAGE = """# Commands

Generated from `tokenpulse/commands_page.py` by `make docs`: do not edit.

`tokenpulse COMMAND --help` lists the options of a command.

{commands}

## Which servers a command asks

Kafka and Redis are those of the [settings](configuration.md): `tokenpulse --config FILE COMMAND`,
or the environment. If neither `redis.url` nor `kafka.bootstrap` is set, `backtest` (without a
file), `daily`, `incident`, `maintenance`, `partitions`, `policy check`, `produce`, `rejected`,
`report`, `scenario`, `sla` and `state` ask the newest `tokenpulse up` that this user runs on this
machine, with its settings. Standard error names its board.

## Exit statuses

{common}

Some commands have further ones:

{own}

## Shell completion

For Bash, add this line to `~/.bashrc`; it completes commands, options and the values of options:

```sh
eval "$(_TOKENPULSE_COMPLETE=bash_source tokenpulse)"
```

For Zsh, add it to `~/.zshrc` with `zsh_source`. For Fish, write the script into a file:

```sh
_TOKENPULSE_COMPLETE=fish_source tokenpulse > ~/.config/fish/completions/tokenpulse.fish
```

The command must be on `PATH` under the name `tokenpulse`.
"""


def commands_page(main: click.Group) -> str:
    """Return the text of docs/commands.md for the root command."""
    return _PAGE.format(
        commands=markdown_table(
            ("command", "does"), ((f"`{name}`", help) for name, help in _commands(main))
        ),
        common=markdown_table(
            ("exit status", "meaning"), ((str(at), text) for at, text in COMMON.items())
        ),
        own=markdown_table(
            ("command", "exit status", "meaning"),
            (
                (f"`{name}`", str(status), text)
                for name, statuses in OWN.items()
                for status, text in statuses.items()
            ),
        ),
    )


def _commands(main: click.Group) -> Iterator[tuple[str, str]]:
    """Yield the commands that `--help` lists, each with the first line of its help."""
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield name, (command.help or "").splitlines()[0]
