"""Whether a server of this host is ready. Imports little, as containers ask every few seconds."""

import http
import http.client
import ssl

TIMEOUT_S = 5.0
_ALL_ADDRESSES = ("", "0.0.0.0", "::")  # noqa: S104


def readiness_problem(
    name: str, host: str, port: int, tls: ssl.SSLContext | None = None
) -> str | None:
    """Ask `/readyz` of a server; None if it is ready.

    `name` is the server in the message, `host` the address at which it listens.
    """
    host = "127.0.0.1" if host in _ALL_ADDRESSES else host
    # http.client uses no proxy of the environment, which urllib would.
    connection = (
        http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        if tls is None
        else http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=tls)
    )
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"the {name} does not answer at port {port}: {error!r}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else text
