"""`tokenpulse business`: from a file of revenue to run rates and retention."""

import json
from pathlib import Path

import pytest

from tests.support.command import assert_one_line, run
from tests.support.paths import ROOT

HEAD = "account,segment,from,to,net_usd\n"
HISTORY = f"""{HEAD}\
acme,enterprise,2026-05-01,2026-06-01,3100
acme,enterprise,2026-06-01,2026-07-01,4500
left,smb,2026-05-01,2026-06-01,31.00
back,smb,2025-01-01,2025-02-01,5
back,smb,2026-06-01,2026-07-01,30
"""
WINDOWS = ("--start", "2026-05-01..2026-06-01", "--end", "2026-06-01..2026-07-01")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.csv"
    path.write_text(HISTORY)
    return path


def test_run_rates_movements_and_retention_of_a_file(history: Path) -> None:
    done = run("business", "arr", history, *WINDOWS, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["start"]["arr_usd"] == str(36_500 + 365)
    assert found["end"]["arr_usd"] == str(54_750 + 365)
    assert found["movements_usd"] == {
        "new": "0",
        "reactivation": "365",
        "expansion": "18250",
        "contraction": "0",
        "churn": "-365",
    }
    assert found["retention"]["all"] == {
        "accounts": 2,
        "net_ratio": "150/101",
        "gross_ratio": "100/101",
    }
    assert found["retention"]["segments"]["smb"]["net_ratio"] == "0"
    text = run("business", "arr", history, *WINDOWS).stdout
    assert "36,865.00 USD  2026-05-01..2026-06-01, revenue x 365/31" in text
    assert "begins on 2025-01-01" in text


def test_the_documented_file_prints_what_is_documented(history: Path) -> None:
    page = (ROOT / "docs" / "business.md").read_text()
    history.write_text(page.partition("```csv\n")[2].partition("```")[0])
    printed = page.partition("prints\n\n```\n")[2].partition("```")[0]
    assert run("business", "arr", history, *WINDOWS).stdout == printed


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("account,from\n", "no column segment, to, net_usd"),
        (f"{HEAD}a,smb,2026-05-01,2026-06-01,much\n", "line 2: net_usd: got 'much'"),
        (f"{HEAD}a,smb,2026-05-01,2026-06-01,nan\n", "line 2: net_usd: got 'nan'"),
        (f"{HEAD}a,smb,2026-06-01,2026-05-01,1\n", "line 2: got 2026-06-01..2026-05-01"),
        (f"{HEAD},smb,2026-05-01,2026-06-01,1\n", "line 2: account: got nothing"),
        (
            f"{HEAD}a,smb,2026-05-01,2026-06-01,1\na,smb,2026-05-31,2026-06-30,1\n",
            "days in common",
        ),
        (f"{HEAD}a,smb,2026-05-01,2026-06-01,1\n", "no line is about 2026-06-01..2026-07-01"),
        (
            f"{HEAD}a,smb,2026-05-01,2026-06-01,1\nb,smb,2026-06-09,2026-07-01,1\n",
            "no line is about 2026-06-01..2026-06-09",
        ),
    ],
)
def test_a_history_that_cannot_be_used_is_one_line(history: Path, lines: str, words: str) -> None:
    history.write_text(lines)
    assert_one_line(run("business", "arr", history, *WINDOWS), str(history), words)


@pytest.mark.parametrize("end", ["June", "2026-04-01..2026-05-01", "2026-05-15..2026-06-15"])
def test_windows_must_follow_each_other(history: Path, end: str) -> None:
    done = run("business", "arr", history, "--start", "2026-05-01..2026-06-01", "--end", end)
    assert_one_line(done, "--end")
