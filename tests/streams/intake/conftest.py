"""An intake over the embedded broker, and a file of tokens."""

from pathlib import Path

import pytest

from tests.support.intake_on_broker import IntakeOnBroker
from tests.support.servers import Broker


@pytest.fixture
def intake(broker: Broker) -> IntakeOnBroker:
    return IntakeOnBroker(broker)


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.yaml"
    file.write_text(
        "senders:\n"
        "  - {token: 0123456789abcdef, tenant: gateway}\n"
        "  - {token: fedcba9876543210, tenant: batch, source: events}\n"
    )
    return file
