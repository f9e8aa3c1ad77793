"""The incidents of the status page as an RSS 2.0 feed, newest first.

Pure.
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from exporters.formatting import minute
from exporters.status_page.facts import StatusFacts
from exporters.status_page.incidents import PublicIncident

ITEMS_MAX = 50


def rss(facts: StatusFacts) -> bytes:
    """Return the feed: an item an incident, with all its updates."""
    url = facts.page.url or ""
    root = Element("rss", version="2.0")
    channel = SubElement(root, "channel")
    _add(channel, "title", f"{facts.page.title}: incidents")
    _add(channel, "link", url)
    _add(channel, "description", facts.description)
    _add(channel, "lastBuildDate", _date(facts.now_s))
    for incident in facts.book.incidents[:ITEMS_MAX]:
        item = SubElement(channel, "item")
        _add(item, "title", _text(incident.name))
        _add(item, "description", _text(_story(incident)))
        _add(item, "pubDate", _date(incident.started_s))
        _add(item, "link", f"{url}#{incident.id}")
        # An id, not an address that can be opened.
        SubElement(item, "guid", isPermaLink="false").text = incident.id
    data: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _story(incident: PublicIncident) -> str:
    return "\n".join(
        f"{minute(update.at_s)}, {update.stage}: {update.body}"
        for update in reversed(incident.updates)
    )


def _text(text: str) -> str:
    """Return a text without the control characters that XML 1.0 cannot hold."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _add(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text


def _date(at_s: float) -> str:
    return format_datetime(datetime.fromtimestamp(at_s, UTC), usegmt=True)
