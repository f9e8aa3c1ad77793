"""The limits of an HTTP server's connections. Pure."""

from pydantic import Field

from streams.config.base import Section


class Connections(Section):
    """Connections of clients, which may be slow, broken or many."""

    max_open: int = Field(
        800,
        ge=4,
        le=100_000,
        description="Most open connections. A further one takes the place of the one that waits "
        "longest for its client. Less if the system allows the process fewer open files.",
    )
    max_per_client: int = Field(
        200,
        ge=2,
        le=100_000,
        description="The same for one client: an address, or a /64 network of IPv6. Behind a "
        "reverse proxy all clients have one address: set it to `max_open`.",
    )
    idle_timeout_s: float = Field(
        75, gt=0, le=3_600, description="Time that a connection stays open without a request."
    )
    header_timeout_s: float = Field(
        10, gt=0, le=600, description="Time for the headers of a request, and for TLS."
    )
    body_timeout_s: float = Field(
        60, gt=0, le=3_600, description="Time for the body of a request, after its headers."
    )
    send_timeout_s: float = Field(
        30,
        gt=0,
        le=3_600,
        description="Time in which a client that reads too slowly must take what was sent.",
    )
