"""An HTTP server of a test, on a free port of loopback."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.certificates import Certificate

_POLL_S = 0.05  # how soon it sees that it is to end


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], certificate: Certificate | None = None
) -> Iterator[str]:
    """Serve with a thread for each request, with TLS if there is a certificate; yield the URL.

    The server listens already, and answers requests from the first line of the block on.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    scheme = "http"
    if certificate is not None:
        scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
