"""Generated documents equal the code they are generated from; written ones name what exists."""

import re
import sys

import pytest
from click import Context, Group

from docs.generate import main as generate
from tests.support.paths import ROOT
from tokenpulse.cli.main import main


def test_the_generated_documents_are_current(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["docs/generate.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        generate()
    assert (ended.value.code, capsys.readouterr().out) == (0, "")


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_architecture_names_only_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = "streams|slo|exporters|alerts|grafana|tokenpulse|tests"
    named = set(re.findall(rf"\b(?:{packages})/[\w/]*(?:\.\w+)?", text))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_readme_names_only_commands_that_exist() -> None:
    named = set(
        re.findall(r"(?:tokenpulse|tokenpulse\.yaml|…) (?:--config \S+ )?([a-z]+)\b", _code())
    )
    assert isinstance(main, Group)
    assert {"replay", "report", "worker", "exporter"} <= named
    known = set(main.list_commands(Context(main)))
    assert named <= known, named - known


def _code() -> str:
    """What stands in back quotes in the README."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    commands = [part for part in [*blocks, *spans] if "tokenpulse " in part or part.startswith("…")]
    return "\n".join(commands)
