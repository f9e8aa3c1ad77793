"""The company of the simulator: its customers, contracts, prices and public status page.

Contracts are renewed on days counted from the start of the stack, so that the daily board always
has some to show.
"""

import json
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from streams.config.yaml_file import parse_document, read_text

SIMULATED = Path(str(resources.files("streams.simulator"))) / "simulated"
# Customer of the simulator -> days until its renewal. The first two have objectives of their own.
RENEWAL_DAYS = {
    "acct-0002": 12,
    "acct-0025": 19,
    "acct-0005": 34,
    "acct-0030": 51,
    "acct-0001": 76,
    "acct-0009": 88,
    "acct-0012": 140,
}


def simulated_company(directory: Path, today: date) -> dict[str, Any]:
    """Return the exporter's settings for the simulated company; writes its customers' file.

    `directory`: where to write the customer directory with its renewal dates.
    """
    source = SIMULATED / "customers.yaml"
    customers = parse_document(read_text(source), str(source))
    path = directory / "customers.yaml"
    with path.open("w") as file:
        for customer in customers:
            days = RENEWAL_DAYS.get(customer["id"])
            if days is not None:
                customer["renewal"] = (today + timedelta(days=days)).isoformat()
            file.write(f"- {json.dumps(customer)}\n")
    return {
        "customer_directory": path,
        "policies": ("default", str(SIMULATED / "contracts.yaml")),
        "price_book": "simulated",
        "status_page": SIMULATED / "status.yaml",
    }
