"""Health checks of containers: exit status 1 with the reason if a part does not work."""

import sys

import click


def exit_with(problem: str | None) -> None:
    """Print `ok`, or the problem and exit with status 1."""
    if problem is not None:
        click.echo(f"tokenpulse: {problem}", err=True)
        sys.exit(1)
    click.echo("ok")
