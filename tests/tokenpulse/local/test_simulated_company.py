"""The files of the simulated company can be read, and have contracts to renew on any day."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from exporters.reference.customers import read_directory
from tokenpulse.local.simulated_company import RENEWAL_DAYS, simulated_company


@pytest.mark.parametrize("today", [date(2026, 11, 30), date(2028, 2, 29)])
def test_contracts_are_renewed_on_days_counted_from_today(tmp_path: Path, today: date) -> None:
    settings = simulated_company(tmp_path, today)
    path = settings["customer_directory"]
    customers = read_directory(path.read_text(), str(path), lambda customer_id: customer_id)
    renewals = {id_: one.renewal for id_, one in customers.items() if one.renewal}
    assert renewals == {id_: today + timedelta(days=days) for id_, days in RENEWAL_DAYS.items()}
    assert all(settings[name].exists() for name in ("customer_directory", "status_page"))
