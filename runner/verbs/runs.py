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

    from recipes.typed import to_json
    from runner.runs.rundir import Damaged, runs
    from runner.runs.show import runs_table

    whole = []
    for one in runs(arguments.runs_dir):
        try:
            manifest = one.read()
        except Damaged as error:
            options.say(f"left out: {error}")
            continue
        whole.append(one)
        if arguments.json:
            print(json.dumps(to_json(manifest) | {"state": one.state(), "path": str(one.path)}, ensure_ascii=False))
    if whole and not arguments.json:
        print(runs_table(whole))
    elif not whole:
        options.say(f"no runs in {arguments.runs_dir.resolve()}")
