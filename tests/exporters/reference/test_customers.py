"""The customer directory: who is behind a hashed id, and what is refused."""

import re
from datetime import date
from pathlib import Path

import pytest

from exporters.reference.customers import Customer, load_directory, read_directory, tokens_with
from streams.errors import ConfigError
from streams.state.registry import customer_hasher
from tests.support.exporter_state import SECRET, settings_for

GOOD = """
- {id: acme, name: Acme Corp, segment: enterprise, contract: e-2026, monthly_commitment_usd: 250000}
- {id: globex, name: Globex, segment: startup, renewal: 2027-01-31}
- {id: hooli, name: Hooli, segment: startup, renewal: "2027-02-28"}
"""


def hashed(customer_id: str) -> str:
    return f"<{customer_id}>"


def test_customers_are_found_by_the_hash_of_their_id() -> None:
    assert read_directory(GOOD, "customers.yaml", hashed) == {
        "<acme>": Customer("Acme Corp", "enterprise", "e-2026", 250_000.0),
        "<globex>": Customer("Globex", "startup", renewal=date(2027, 1, 31)),
        "<hooli>": Customer("Hooli", "startup", renewal=date(2027, 2, 28)),
    }


def test_ids_are_hashed_as_the_worker_hashes_them(tmp_path: Path) -> None:
    path = tmp_path / "customers.yaml"
    path.write_text(GOOD)
    settings = settings_for("redis://127.0.0.1:1/0", customer_directory=path)
    token = customer_hasher(SECRET.encode())("acme")
    assert load_directory(settings)[token].name == "Acme Corp"


def test_the_key_of_customers_is_read_once_and_only_if_a_token_is_asked_for(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    worker = {"customer_key": None, "customer_key_file": key}
    token_of = tokens_with(settings_for("redis://127.0.0.1:1/0", worker=worker))
    with pytest.raises(ConfigError, match="customer_key_file"):
        token_of("acme")
    key.write_text(SECRET)
    hashed = customer_hasher(SECRET.encode())
    assert token_of("acme") == hashed("acme")
    key.unlink()
    assert token_of("globex") == hashed("globex")


def test_without_a_directory_nobody_is_known() -> None:
    assert load_directory(settings_for("redis://127.0.0.1:1/0")) == {}
    assert read_directory("", "customers.yaml", hashed) == {}


def test_a_directory_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    settings = settings_for("redis://127.0.0.1:1/0", customer_directory=tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"customer_directory: .*none.yaml: cannot be read: "):
        load_directory(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "c.yaml: line 1, column 2: not YAML: "),
        ("a: b", "c.yaml: got dict; write a list"),
        ("- acme", "c.yaml: [0]: got 'acme'; write the keys id, name"),
        ("- {id: a, name: A}", "c.yaml: [0]: segment: got nothing; write 1 to 128"),
        ("- {id: 42, name: A, segment: s}", "c.yaml: [0]: id: got 42; write 1 to 128"),
        ('- {id: a, name: "a\\nb", segment: s}', "c.yaml: [0]: name: got 'a\\nb'; write"),
        ("- {id: a, name: A, segment: s, renewal: soon}", "renewal: got 'soon'; write a day as"),
        ("- {id: a, name: A, segment: s, renewal: 2027-01-31T09:00}", "write a day as YYYY-MM-DD"),
        ("- {id: a, name: A, segment: s, renewal: 20270131}", "c.yaml: [0]: renewal: got 20270131"),
        ("- {id: a, name: A, segment: s, nmae: b}", "c.yaml: [0]: nmae: no such key; known"),
        (
            "- {id: a, name: A, segment: s, monthly_commitment_usd: -1}",
            "c.yaml: [0]: monthly_commitment_usd: got -1; write dollars",
        ),
        (
            "- {id: a, name: A, segment: s, monthly_commitment_usd: .nan}",
            "c.yaml: [0]: monthly_commitment_usd: got '.nan'; write dollars",
        ),
        (
            "- {id: a, name: A, segment: s, monthly_commitment_usd: true}",
            "c.yaml: [0]: monthly_commitment_usd: got True; write dollars",
        ),
        (
            "- {id: a, name: A, segment: s}\n- {id: a, name: B, segment: s}",
            "c.yaml: [1]: id 'a' stands at [0] too",
        ),
        (
            "- {id: a, name: A, segment: s}\n- {id: b, name: A, segment: s}",
            "c.yaml: [1]: name 'A' stands at [0] too",
        ),
        (
            f"- {{id: a, name: {'漢' * 86}, segment: s}}",
            "c.yaml: [0]: name: has 258 bytes, and Prometheus accepts labels of up to 256",
        ),
        (
            "- {id: a, name: __other__, segment: s}",
            "c.yaml: [0]: name: got '__other__'; that name has a meaning here, choose another",
        ),
    ],
)
def test_a_mistake_is_one_line_with_place_finding_and_cure(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        read_directory(text, "c.yaml", hashed)
    assert "\n" not in str(refused.value)
