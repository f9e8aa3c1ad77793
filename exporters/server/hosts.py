"""Which names of this exporter a request may use. Pure.

A web page in a browser of this network can have its own name resolve to the exporter's
address (DNS rebinding), and then read the board as its own page. The browser still sends the
page's name as Host.
"""

import ipaddress
from collections.abc import Iterable

ALL_ADDRESSES = ("", "0.0.0.0", "::")  # noqa: S104


class AllowedHosts:
    """The names of `exporter.allowed_hosts`, those of loopback, and the address it listens on."""

    def __init__(self, bound: str, names: Iterable[str] = ()) -> None:
        """`bound`: the address it listens on. `names`: `.a.example` stands for all names below."""
        lowered = [name.lower().rstrip(".") for name in names]
        self._allows_all = "*" in lowered
        self._names = {"localhost", bound.lower(), *lowered}
        # One address of IPv6 has several forms.
        self._addresses = {_address(name) for name in self._names} - {None}
        self._suffixes = tuple(name for name in lowered if name.startswith("."))
        # A name in the DNS cannot be an address, so no page can claim one by rebinding.
        self._allows_addresses = bound in ALL_ADDRESSES

    def allow(self, host: str) -> bool:
        """Return whether a Host header, perhaps with a port, is one of them."""
        name = _without_port(host.lower()).rstrip(".")
        if self._allows_all or name in self._names or name.endswith(self._suffixes or ("\0",)):
            return True
        address = _address(name)
        if address is None:
            return False
        return self._allows_addresses or address.is_loopback or address in self._addresses


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a name is; None if it is another name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):  # an address of IPv6
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
