"""docs/commands.md: its exit statuses are those of the code, and completion works as it says."""

import ast
import subprocess
import sys

import click
import pytest

from tests.support.command import run
from tests.support.paths import ROOT
from tokenpulse.cli.main import COMMANDS, HEALTH_COMMANDS, main
from tokenpulse.commands_page import OWN

CLI = ROOT / "tokenpulse" / "cli"


def statuses(source: str) -> set[int]:
    """The exit statuses above 0 that a module names: of `sys.exit` and of a helper around it."""
    found: set[int] = set()
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name == "exit_with" or (
            name == "sys.exit" and ast.unparse(call).startswith("sys.exit(bool(")
        ):
            found.add(1)
        elif name in ("sys.exit", "_fail"):
            first = call.args[0]
            if isinstance(first, ast.IfExp):  # `1 if damaged else 0`
                first = first.body
            if isinstance(first, ast.Constant) and isinstance(first.value, int):
                found.add(first.value)
            elif name == "_fail":
                found.add(1)
    return found - {0}


def test_every_status_in_the_code_is_in_the_table() -> None:
    documented: dict[str, set[int]] = {}
    for name, own in OWN.items():
        group, *rest = name.split()
        place, _ = HEALTH_COMMANDS[rest[0]] if group == "health" else COMMANDS[group]
        documented.setdefault(place.split(":")[0].replace(".", "/"), set()).update(own)
    for path in CLI.rglob("*.py"):
        module = str(path.relative_to(CLI).with_suffix(""))
        if module in ("main", "health/__init__"):
            continue  # the statuses of all commands
        # Status 70, and that of a worker, come from below the command line.
        below = {70} | ({1} if module == "processes/worker" else set())
        assert documented.get(module, set()) - below == statuses(path.read_text()), module


@pytest.mark.parametrize("name", OWN)
def test_every_command_with_its_own_statuses_exists(name: str) -> None:
    command: click.Command = main
    for word in name.replace("KIND", "outage").split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found


def test_a_wrong_argument_ends_with_the_documented_status() -> None:
    for line in (
        "report --no-such",
        "no-such",
        "rules build --format x",
        "policy check absent.yaml",
    ):
        assert run(*line.split()).exit_code == 2, line


def test_the_shell_completes_commands_as_documented() -> None:
    environment = {
        "_TOKENPULSE_COMPLETE": "bash_complete",
        "COMP_WORDS": "tokenpulse rep",
        "COMP_CWORD": "1",
    }
    program = "import sys; sys.argv = ['tokenpulse']; from tokenpulse.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["plain,replay", "plain,report"], done.stderr
