"""A local stack whose children are small scripts."""

import sys

from tokenpulse.local.stack import LocalStack
from tokenpulse.local.supervisor import Child

SLEEPS = "import time; time.sleep(3600)"


LISTENS = (
    "import http.server, os; http.server.HTTPServer(('127.0.0.1', "
    "int(os.environ.get('TOKENPULSE_EXPORTER__PORT', '9464'))), http.server.BaseHTTPRequestHandler)"
    ".serve_forever()"
)
LISTENS_AS_INTAKE = LISTENS.replace("EXPORTER__PORT', '9464'", "INTAKE__PORT', '4318'")


class StackOfScripts(LocalStack):
    """Real supervisor, broker and Redis; short scripts in the place of our own commands."""

    scripts: dict[str, str] = {  # noqa: RUF012
        "worker": SLEEPS,
        "exporter": LISTENS,
        "intake": LISTENS_AS_INTAKE,
        "simulate": SLEEPS,
    }
    stop_grace_s = 10.0

    def _command(self, name: str, *command: str) -> Child:
        script = self.scripts[command[0]]
        return Child(
            name, sys.executable, ("-c", script), self.environment, stop_grace_s=self.stop_grace_s
        )
