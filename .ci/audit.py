"""Known vulnerabilities of the locked dependencies, or an honest word that nobody was asked.

Exit status 1 where one is found, or where only some dependencies could be looked up. Where none
could, the advisory service does not answer here (a mirror has packages, but no advisories), and
that is no verdict: said, with status 0.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
DEADLINE_S = 300


def main() -> int:
    """See the module."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, "--require-hashes", "--disable-pip", "--requirement", LOCK],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        return not_run(f"no answer in {DEADLINE_S} s")
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines()
        return not_run(lines[-1] if lines else f"pip-audit ended with status {done.returncode}")
    return judge(found)


def judge(found: list[dict[str, Any]]) -> int:
    """Say what pip-audit found; the exit status."""
    unknown = [one for one in found if "skip_reason" in one]
    if len(unknown) == len(found):
        return not_run(unknown[0]["skip_reason"] if unknown else "no dependencies in the lock")
    for one in unknown:
        print(f"{one['name']}: not looked up: {one['skip_reason']}")
    bad = [one for one in found if one.get("vulns")]
    for one in bad:
        for flaw in one["vulns"]:
            fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {flaw['id']}, fixed in {fixed}")
    if not bad:
        print(f"audit: no known vulnerability in {len(found) - len(unknown)} dependencies")
    return 1 if bad or unknown else 0


def not_run(why: str) -> int:
    """Say that there is no verdict."""
    print(f"audit: not run: the advisory service does not answer ({why})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
