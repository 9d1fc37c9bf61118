"""`recipe doctor`: what is missing on this machine, and what to do about it."""

from __future__ import annotations

import argparse

EXAMPLES = ("recipe doctor",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_arguments: argparse.Namespace) -> None:
    from runner.machine.doctor import findings

    for finding in findings():
        print(finding, flush=True)
