"""`recipe rm`: remove runs, or their checkpoints alone."""

from __future__ import annotations

import argparse
import sys

from runner.verbs import options

EXAMPLES = ("recipe rm quickstart quickstart-2", "recipe rm quickstart --checkpoints --yes")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="names or directories of runs")
    parser.add_argument(
        "--checkpoints", action="store_true", help="remove their checkpoints only: model/, metrics and scores stay"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where nobody can be asked")
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import UserError
    from runner.launching.queued import check_gone
    from runner.runs.checkpoints import shown_size
    from runner.runs.remove import removals, remove

    found = removals(arguments.runs, arguments.runs_dir, checkpoints=arguments.checkpoints)
    for one in found:
        check_gone(one.run, options.say)
        what = (
            f"{sum(path.is_dir() for path in one.paths)} checkpoints"
            if arguments.checkpoints
            else one.run.state_or_damaged()
        )
        options.say(f"{one.run.path}: {what}, {shown_size(one.size)}")
    total = shown_size(sum(one.size for one in found))
    if not arguments.yes and not _agreed(f"remove {total}?"):
        raise UserError(f"nothing was removed; `recipe rm … --yes` removes the {total}")
    remove(found, options.say)
    options.say(f"freed {total}")


def _agreed(question: str) -> bool:
    """Whether the person at the terminal says yes; without a terminal, nobody does."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
