"""Runs a command and prints its CPU-seconds beside the budget in budget.json: a warning, since machines are noisy.

Usage: python -m tests.budget NAME COMMAND…
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

BUDGET = Path(__file__).with_name("budget.json")  # CPU-seconds by name, as measured on two cores


def main(name: str, command: list[str]) -> int:
    started = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent, allowed = used.ru_utime + used.ru_stime, json.loads(BUDGET.read_text(encoding="utf-8"))[name]
    over = "" if spent <= allowed else "  (over the budget: find out what has grown, or change it on purpose)"
    print(f"{name}: {spent:.0f} CPU-s of {allowed}, {time.monotonic() - started:.0f} s{over}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
