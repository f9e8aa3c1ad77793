"""The file of the status page: what it selects, and one line for each mistake."""

from pathlib import Path

import pytest

from exporters.status_page.components import load_status_page
from streams.errors import ConfigError
from tests.support.status_pages import PAGE, page_file, status_page

OPUS_EU = ("opus", "eu-west-1", "direct", "standard")
HAIKU_US = ("haiku", "us-east-1", "direct", "standard")


def test_a_component_stands_for_the_requests_of_its_scope(tmp_path: Path) -> None:
    chat, europe, everything = status_page(tmp_path).components
    assert [part.selects(OPUS_EU) for part in (chat, europe, everything)] == [True, True, True]
    assert [part.selects(HAIKU_US) for part in (chat, europe, everything)] == [False, False, True]


def test_a_component_is_found_by_its_name_and_by_its_id(tmp_path: Path) -> None:
    page = status_page(tmp_path)
    assert page.component("Chat API") == page.component("chat-api") == page.components[0]
    assert page.component("Billing") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got nothing; write `title` and `components`"),
        ("title: T\n", "components: got nothing; this key is required"),
        ("title: T\ncomponents: []\n", "components: got []; write at least one"),
        (PAGE.replace("about:", "abuot:"), "abuot: got 'Answers of all chat models'; no such key"),
        (
            PAGE.replace("{region: [eu-west-1]}", "{customer: [acme]}"),
            "a public page names no customer",
        ),
        (PAGE.replace("Europe", "chat api"), "two components are called 'chat-api'"),
        (PAGE + "outage_below: 99.9%\n", "outage_below is above degraded_below"),
        (PAGE + "show_uptime: sometimes\n", "show_uptime: got 'sometimes'"),
    ],
)
def test_a_mistake_is_one_line_with_path_value_and_fix(
    tmp_path: Path, text: str, words: str
) -> None:
    path = page_file(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_status_page(path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(str(path))
    assert words in line


def test_a_missing_file_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exporter\.status_page: .*gone\.yaml"):
        load_status_page(tmp_path / "gone.yaml")
