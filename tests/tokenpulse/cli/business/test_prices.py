"""`tokenpulse prices`: from published prices to what requests cost."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest

from tests.support.command import assert_one_line, run

TABLE = """\
provider,model,start_date,start_time_utc,end_time_utc,when_json,price_key,\
tier_start_input_tokens,usd_per_mtok
p,m,,,,,input_mtok,0,2
p,m,,,,,cache_read_mtok,0,0.2
p,m,,,,,output_mtok,0,10
p,m,2026-05-01,,,,input_mtok,0,4
p,m,2026-05-01,,,,output_mtok,0,20
"""
REQUESTS = """\
model,at,input_tokens_incl_cached_and_written,cache_read,output_tokens
m,2026-04-30T23:59:59Z,100,40,10
m,2026-05-01T00:00:00Z,100,40,10
other,2026-05-01T00:00:00Z,100,40,10
m,2026-05-01T00:00:00Z,100,140,10
m,2026-05-01T00:00:00Z,some,0,10
m,yesterday,1,0,1
m,2026-05-01T00:00:00Z,1,0,10000000000000000000
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A price list, imported from a table."""
    table, path = tmp_path / "rows.csv", tmp_path / "prices.yaml"
    table.write_text(TABLE)
    done = run("prices", "import", "--from", "genai-prices", table)
    assert (done.exit_code, done.stderr) == (0, "")
    path.write_text(done.stdout)
    return path


def test_each_request_has_its_exact_cost_or_the_reason_why_it_has_none(
    prices: Path, tmp_path: Path
) -> None:
    requests = tmp_path / "requests.csv"
    requests.write_text(REQUESTS)
    done = run("prices", "rate", "--prices", prices, requests)
    assert (done.exit_code, done.stderr) == (1, "")
    rows = [tuple(row.values()) for row in csv.DictReader(StringIO(done.stdout))]
    assert rows[:3] == [
        ("2", "m", "0.000128", "0.0001", "0.000228", ""),
        # The later entry has no price of cached tokens, so they cost what others cost.
        ("3", "m", "0.0004", "0.0002", "0.0006", ""),
        ("4", "other", "", "", "", "the list has no model other"),
    ]
    problems = [row[-1] for row in rows[3:]]
    assert "than there are input tokens" in problems[0]
    assert "got 'some'; write a whole number of at most 18 digits" in problems[1]
    assert "yesterday" in problems[2]
    assert "at most 18 digits" in problems[3]
    requests.write_text("".join(REQUESTS.splitlines(keepends=True)[:3]))
    assert run("prices", "rate", "--prices", prices, requests).exit_code == 0


def test_check_explain_and_diff_tell_the_rows(prices: Path, tmp_path: Path) -> None:
    assert run("prices", "check", prices).stdout == f"{prices}: 1 model, 2 rows, fine\n"
    asked = ("prices", "explain", "--prices", prices, "--model", "m", "--at")
    done = run(*asked, "2026-04-30")
    assert done.exit_code == 0
    assert "usd_per_mtok: input 2, cache_read 0.2, output 10\n" in done.stdout
    done = run(*asked, "1969-12-31")
    assert (done.exit_code, "no price that applies at 1969-12-31" in done.stdout) == (1, True)
    other = tmp_path / "other.yaml"
    other.write_text(prices.read_text().replace("input: 4", "input: 5"))
    assert run("prices", "diff", prices, prices).stdout == ""
    done = run("prices", "diff", prices, other)
    assert done.exit_code == 1
    old, new = done.stdout.splitlines()
    assert (old[0], "input 4" in old, new[0], "input 5" in new) == ("-", True, "+", True)
    other.write_text(prices.read_text().replace("fallback: standard", "fallback: unpriced"))
    done = run("prices", "diff", prices, other)
    assert done.stdout == "- tier_fallback standard\n+ tier_fallback unpriced\n"
    assert done.exit_code == 1


def test_a_file_that_cannot_be_used_is_one_line(prices: Path, tmp_path: Path) -> None:
    requests = tmp_path / "requests.csv"
    requests.write_text("model,at\n")
    asked = ("prices", "rate", "--prices", prices)
    assert_one_line(run(*asked, requests), "no column", "output_tokens")
    assert_one_line(run("prices", "check", tmp_path / "none.yaml"), "none.yaml")
    for source, text in (("litellm", "[]"), ("litellm", "{"), ("models.dev", '{"p": 1}')):
        file = tmp_path / "published.json"
        file.write_text(text)
        assert_one_line(run("prices", "import", "--from", source, file), str(file), source)
    file.write_text(json.dumps({"m": {"litellm_provider": "p"}}))
    assert_one_line(run("prices", "import", "--from", "litellm", file), "no price per token")
