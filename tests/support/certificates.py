"""Certificates for the tests: an authority, and who it vouches for. Made with openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import find_program


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as files in PEM form."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; its own is `cert`."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._program = find_program("openssl")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._own = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
        self._openssl(self._own, name, "-x509")

    @property
    def cert(self) -> Path:
        """What those who trust it need."""
        return self._own.cert

    def issue(self, name: str, host: str = "IP:127.0.0.1") -> Certificate:
        """A certificate for this host (`IP:...` or `DNS:...`)."""
        issued = Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        signing = ("-x509", "-CA", self._own.cert, "-CAkey", self._own.key)
        self._openssl(
            issued,
            name,
            *signing,
            *("-addext", f"subjectAltName={host}", "-addext", "basicConstraints=critical,CA:FALSE"),
        )
        return issued

    def _openssl(self, made: Certificate, name: str, *options: object) -> None:
        command = [
            self._program,
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]
        command += ["-pkeyopt", "ec_paramgen_curve:P-256"]
        files = ("-keyout", str(made.key), "-out", str(made.cert))
        subprocess.run(
            [*command, "-nodes", "-days", "2", "-subj", f"/CN={name}", *files, *map(str, options)],
            check=True,
            capture_output=True,
        )
