"""`tokenpulse mapping`: move mappings from YAML to SQL."""

from pathlib import Path

import click

from streams.errors import RequestError
from streams.sources.declaration import load_yaml
from streams.sources.translation import translate

YAML_SUFFIXES = (".yaml", ".yml")


@click.group()
def mapping() -> None:
    """Move mappings from YAML to SQL."""


@mapping.command()
@click.argument("file", type=click.Path(path_type=Path))
def sql(file: Path) -> None:
    """Print the SQL that a mapping in YAML stands for (docs/mappings-yaml.md).

    Save it as FILE.sql and give that to --mapping: the results are the same.
    """
    if file.suffix not in YAML_SUFFIXES:
        raise RequestError(f"{file}: give a mapping in YAML, a file that ends in .yaml or .yml")
    text = translate(load_yaml(file, "give the path of a mapping in YAML"))
    click.echo(text, nl=False)
