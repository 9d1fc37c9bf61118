"""`recipe setup`: the environments of the backends and of evaluation."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe setup", "recipe setup verl eval-vllm")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="llamafactory, verl, eval (default: these three), eval-vllm"
    )


def run(arguments: argparse.Namespace) -> None:
    from runner.machine.environments import NAMES, ensure, environment
    from runner.machine.topology import visible_gpus

    device = "cuda" if visible_gpus() else "cpu"
    for wanted in [environment(name, device) for name in arguments.names or NAMES]:
        print(f"{wanted.name}: {ensure(wanted, options.say)}")
