"""What Grafana is started with: the data source and the folders that the boards need."""

import re

import yaml

from grafana.frame import DATA_SOURCE_UID
from tests.support.grafana_boards import BOARDS, DASHBOARDS, variables
from tests.support.paths import ROOT

PROVISIONING = ROOT / "grafana" / "provisioning"


def test_grafana_is_given_the_data_source_that_the_boards_choose() -> None:
    (path,) = (PROVISIONING / "datasources").glob("*.yaml")
    document = yaml.safe_load(path.read_text())
    assert document["apiVersion"] == 1
    (source,) = document["datasources"]
    assert (source["type"], source["uid"]) == ("prometheus", DATA_SOURCE_UID)
    for board in BOARDS.values():
        assert variables(board)["datasource"]["current"]["value"] == source["uid"]
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    given = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    environment = given["services"]["grafana"]["environment"]
    for name in re.findall(r"(?<!\$)\$\{(\w+)\}", path.read_text()):
        assert environment[name], name
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (trace,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert trace["name"] == "trace_id"
    assert trace["url"].endswith("$${__value.raw}")  # Grafana would fill in a single $


def test_grafana_finds_the_boards_and_makes_folders_of_their_directories() -> None:
    (path,) = (PROVISIONING / "dashboards").glob("*.yaml")
    document = yaml.safe_load(path.read_text())
    assert document["apiVersion"] == 1
    (provider,) = document["providers"]
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["foldersFromFilesStructure"] is True
    assert "folder" not in provider  # would override the directories
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = dict(
        volume.split(":")[:2][::-1] for volume in compose["services"]["grafana"]["volumes"]
    )
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./grafana/provisioning"
    assert {one.parent.parent for one in DASHBOARDS.rglob("*.json")} == {DASHBOARDS}
