"""Writes the generated documents, or reports which are not current.

python docs/generate.py           write them
python docs/generate.py --check   exit status 1 if one differs from the code
"""

import json
import sys
from pathlib import Path

from exporters.catalogue import document as metrics_page
from exporters.daily.render import data as daily_json
from slo.policy import schema as policy_schema
from streams.config import settings as config
from streams.events import schema as event_schema
from streams.query import report_schema
from tokenpulse.cli.main import main as main_command
from tokenpulse.commands_page import commands_page

ROOT = Path(__file__).resolve().parents[1]


def documents() -> dict[str, str]:
    """Return the text of each generated document by its path in the project."""
    return {
        **event_schema.documents(),
        **metrics_page.documents(),
        **policy_schema.documents(),
        "docs/commands.md": commands_page(main_command),
        "docs/configuration.md": config.document(),
        "docs/daily.schema.json": json.dumps(daily_json.json_schema(), indent=2) + "\n",
        "docs/report.schema.json": json.dumps(report_schema.json_schema(), indent=2) + "\n",
    }


def main() -> None:
    """Write the documents that changed, or with `--check` report them."""
    stale = [
        path
        for path, text in documents().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text() != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path}: differs from the code; run `make docs`")
        sys.exit(bool(stale))
    for path in stale:
        (ROOT / path).write_text(documents()[path])
        print(f"{path}: written")


if __name__ == "__main__":
    main()
