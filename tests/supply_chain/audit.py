"""Look for known vulnerabilities in the packages of requirements.lock. `python tests/supply_chain/audit.py`.

Exit code 0: every package was looked up and none is vulnerable. 1: some are. 3: not all packages could be looked up,
for example because the service cannot be reached; pip-audit itself reports "No known vulnerabilities found" then.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "requirements.lock"
FOUND, INCOMPLETE = 1, 3
SHOWN = 5
"""Packages that are named where many could not be looked up."""


def audit(lock: Path, service: str) -> int:
    """Audit a lock file and print what was found; gives the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--requirement", str(lock)]
    options = ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", service]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        print(f"NOT AUDITED: pip-audit ended without a result: {_last_line(done.stderr)}", file=sys.stderr)
        return INCOMPLETE
    return report(dependencies)


def report(dependencies: list[dict[str, Any]]) -> int:
    """Print vulnerable packages and those that could not be looked up; gives the exit code."""
    skipped = [dependency for dependency in dependencies if "skip_reason" in dependency]
    vulnerable = [dependency for dependency in dependencies if dependency.get("vulns")]
    for dependency in vulnerable:
        for vulnerability in dependency["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            print(f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, fixed in {fixed}")
    print(f"{len(dependencies) - len(skipped)} of {len(dependencies)} packages looked up, {len(vulnerable)} vulnerable")
    if skipped or not dependencies:
        names = ", ".join(dependency["name"] for dependency in skipped[:SHOWN])
        reason = skipped[0]["skip_reason"] if skipped else "the lock file names no package"
        print(f"NOT AUDITED: {len(skipped)} packages ({names}…): {reason}", file=sys.stderr)
    if vulnerable:
        return FOUND
    return INCOMPLETE if skipped or not dependencies else 0


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", nargs="?", type=Path, default=LOCK)
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi")
    arguments = parser.parse_args()
    sys.exit(audit(arguments.lock, arguments.service))
