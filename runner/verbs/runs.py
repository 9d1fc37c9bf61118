"""`recipe runs`: what there is, and in which state."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe runs", "recipe runs --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the manifests, one JSON object per line")
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    import json

    from runner.runs.rundir import runs
    from runner.runs.show import runs_table

    found = list(runs(arguments.runs_dir))
    if arguments.json:
        for one in found:
            print(json.dumps(one.read() | {"state": one.state(), "path": str(one.path)}, ensure_ascii=False))
    elif found:
        print(runs_table(found))
    else:
        options.say(f"no runs in {arguments.runs_dir.resolve()}")
