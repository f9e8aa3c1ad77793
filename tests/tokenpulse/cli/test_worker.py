"""Names that a worker reserves for the policies it can read."""

import logging
from pathlib import Path

import pytest

from streams.config.settings import Settings
from tokenpulse.cli.processes.worker import read_reserved

POLICY = """\
version: 1
name: acme
objectives:
  - name: large
    scope: {model: large}
    target: 99 %
    period: {rolling_days: 30}
    indicator: {kind: request_ratio}
"""


def test_a_policy_that_cannot_be_read_takes_no_names_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy, absent = tmp_path / "acme.yaml", tmp_path / "none.yaml"
    policy.write_text(POLICY)
    settings = Settings(exporter={"policies": (str(absent), str(policy))})
    with caplog.at_level(logging.WARNING):
        assert read_reserved(settings).model == {"large"}
    assert "none.yaml: no such file" in caplog.text
