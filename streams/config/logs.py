"""The settings of the logs of all processes. Pure."""

from typing import Literal

from pydantic import Field

from streams.config.base import Section


class Logs(Section):
    """The logs of workers, intake and exporter, which they write to standard error."""

    format: Literal["text", "json"] = Field(
        "text",
        description="`text` for people, or `json` for log systems: one object a line. A message "
        "that repeats is written ten times a minute at most, then summed up once a minute.",
    )
