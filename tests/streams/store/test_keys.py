"""The names of Redis keys are published: older states and access rules rely on them."""

from streams.store.keys import Keys
from tests.support.paths import ROOT


def test_key_names_are_those_of_earlier_versions() -> None:
    keys = Keys("g", "t")
    assert keys.partition(7) == "tp:{g:t:7}"
    assert keys.heartbeat(7) == "tp:{g:t:7}:pulse"
    assert keys.command(7) == "tp:{g:t:7}:order"
    assert keys.partitions == "tp:{g:t}:partitions"
    assert (keys.scenarios, keys.simulators) == ("tp:{g:t}:scenarios", "tp:{g:t}:simulators")
    assert (keys.days, keys.maintenance) == ("tp:{g:t}:days", "tp:{g:t}:maintenance")
    assert keys.archived_hashes == "tp:{g:t}:hashes"
    assert keys.sent("2026-11-27") == "tp:{g:t}:sent:2026-11-27"
    assert keys.source_counts(1_700_000_400) == "tp:{g:t}:source-counts:1700000400"
    assert keys.ledger("o") == "tp:{g:t}:ledger:o"
    assert keys.ledger("o", "2026-11") == "tp:{g:t}:ledger:o:2026-11"


def test_no_other_module_builds_a_key() -> None:
    packages = ("streams", "slo", "exporters", "alerts", "grafana", "tokenpulse")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    building = [path.name for path in modules if '"tp:' in path.read_text()]
    assert building == ["keys.py"]
