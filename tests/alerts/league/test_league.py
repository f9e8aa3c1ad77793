"""The league of incidents: each pages as it must and in time."""

from collections import Counter

import pytest

from tests.alerts.league.incidents import INCIDENTS
from tests.alerts.league.table import (
    BEGIN,
    DOC,
    END,
    markdown,
    play_all,
    run,
    simulate_pages,
    without_cluster,
)
from tests.support.alertmanager import SERVER
from tests.support.programs import needs_programs

QUICK = (
    "region us, a third of the traffic, fails",
    "no request arrives",
    "one of four workers dies",
    "all workers die, and return one after another",
)


def test_some_incidents_page_as_they_must() -> None:
    incidents = [incident for incident in INCIDENTS if incident.name in QUICK]
    assert len(incidents) == len(QUICK)
    for incident, alerts in zip(incidents, play_all(incidents), strict=True):
        result = simulate_pages(incident, alerts)
        assert result.is_right, (incident.name, result.pages)


@pytest.mark.stack
@pytest.mark.timeout(1_800)  # a minute and a half of one idle core
@needs_programs(alertmanager=SERVER)
def test_each_incident_pages_as_it_must_and_the_published_table_is_current() -> None:
    results, delivered = run()
    assert Counter(incident.name for incident in INCIDENTS).most_common(1)[0][1] == 1
    for result, received in zip(results, delivered, strict=True):
        name = result.incident.name
        # The simulation has the exact times, the real Alertmanager the last word on what is sent.
        assert without_cluster(received) == sorted(group for _, group in result.pages), name
        assert received.slack_messages >= len(received.paged), name
        assert result.is_right is not result.incident.is_known_failure, (name, result.pages)
    _, _, rest = DOC.read_text().partition(BEGIN)
    table = rest.partition(END)[0].strip()
    assert table == markdown(results).strip(), "write it: python -m tests.alerts.league.table"
