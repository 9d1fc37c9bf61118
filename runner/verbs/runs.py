"""`recipe runs`: what there is, in which state, and what there is of one run."""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.verbs import options

EXAMPLES = ("recipe runs", "recipe runs quickstart", "recipe runs --failed", "recipe runs --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="one run: its whole checkpoints, their size, the newest scores"
    )
    parser.add_argument("--failed", action="store_true", help="those that failed, were stopped or crashed, and why")
    parser.add_argument("--json", action="store_true", help="print the manifests, one JSON object per line")
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import UserError

    if arguments.run and arguments.failed:
        raise UserError("--failed: lists several; take it out, or take out the name of the run")
    if arguments.run:
        _one(arguments.run, arguments.runs_dir, as_json=arguments.json)
    else:
        _all(arguments.runs_dir, failed=arguments.failed, as_json=arguments.json)


def _one(name: str, directory: Path, *, as_json: bool) -> None:
    import json

    from recipes.typed import to_json
    from runner.launching.queued import queued
    from runner.runs.rundir import find
    from runner.scoring.about import about, about_text

    waiting = queued(directory, options.say, only=name).get(name)
    if waiting and not waiting.begun:
        print(json.dumps(waiting.as_json(), ensure_ascii=False) if as_json else str(waiting))
        return
    if waiting and waiting.place:
        options.say(str(waiting))
    found = about(find(name, directory))
    print(json.dumps(to_json(found), ensure_ascii=False) if as_json else about_text(found))


def _all(directory: Path, *, failed: bool, as_json: bool) -> None:
    import json

    from recipes.typed import to_json
    from runner.launching.queued import queued
    from runner.runs.rundir import Damaged, runs
    from runner.runs.show import runs_table
    from runner.scoring.about import STOPPED, reason, stopped_table

    launched = queued(directory, options.say)
    whole, states = [], {}
    for one in runs(directory):
        try:
            manifest = one.read()
        except Damaged as error:
            options.say(f"left out: {error}")
            continue
        placed = launched.get(one.name)
        states[one.name] = placed.state(one.state()) if placed else one.state()
        if failed and states[one.name] not in STOPPED:
            continue
        whole.append(one)
        if as_json:
            more = {"state": states[one.name], "path": str(one.path)} | ({"reason": reason(one)} if failed else {})
            print(json.dumps(to_json(manifest) | (placed.as_json() if placed else {}) | more, ensure_ascii=False))
    waiting = [one for one in launched.values() if not one.begun and not failed]
    if as_json:
        for other in waiting:
            print(json.dumps(other.as_json(), ensure_ascii=False))
    elif whole or waiting:
        print(stopped_table(whole) if failed else runs_table(whole, states, [one.row() for one in waiting]))
    if not whole and not waiting:
        options.say(f"no {'stopped or failed ' if failed else ''}runs in {directory.resolve()}")
