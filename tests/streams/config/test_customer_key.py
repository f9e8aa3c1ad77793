"""The key of customer ids, and the key before it while it is changed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from streams.config.worker import Worker
from streams.errors import ConfigError

KEY, BEFORE = "a new key of the tests, long", "the key before it, as long"


def test_both_keys_are_read_from_settings_or_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "before").write_text(f"{BEFORE}\n")
    files = Worker(
        customer_key_file=tmp_path / "key", customer_key_previous_file=tmp_path / "before"
    )
    for worker in (files, Worker(customer_key=KEY, customer_key_previous=BEFORE)):
        assert worker.customer_secret() == KEY.encode()
        assert worker.previous_customer_secret() == BEFORE.encode()
    assert Worker(customer_key=KEY).previous_customer_secret() is None
    assert BEFORE not in repr(Worker(customer_key=KEY, customer_key_previous=BEFORE))


@pytest.mark.parametrize("name", ["customer_key", "customer_key_previous"])
def test_a_key_is_given_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=f"give {name} or {name}_file, not both"):
        Worker(**{name: KEY, f"{name}_file": tmp_path})


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("short", r"worker.customer_key_previous: customer ids .* least 16 bytes"),
        (KEY, r"worker.customer_key_previous: is the same as worker.customer_key; set the new key"),
    ],
)
def test_a_key_before_that_cannot_be_used_is_one_line(before: str, message: str) -> None:
    worker = Worker(customer_key=KEY, customer_key_previous=before)
    with pytest.raises(ConfigError, match=message) as caught:
        worker.previous_customer_secret()
    assert "\n" not in str(caught.value)


def test_the_key_before_alone_is_no_key() -> None:
    worker = Worker(customer_key_previous=BEFORE)
    with pytest.raises(ConfigError, match=r"worker.customer_key: "):
        worker.previous_customer_secret()
