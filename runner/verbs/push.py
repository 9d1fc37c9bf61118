"""`recipe push`: a run's model on the Hub."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = (
    "recipe push quickstart me/finance-lora --private",
    "recipe push quickstart me/finance --merged --license apache-2.0 --dry-run",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("repository", metavar="USER/NAME", help="of the Hub; made where it is missing")
    parser.add_argument("--private", action="store_true", help="make it a private one")
    parser.add_argument("--merged", action="store_true", help="the merged model (`recipe merge`), not the adapter")
    parser.add_argument("--revision", metavar="BRANCH", help="a branch, made where it is missing (default: main)")
    parser.add_argument("--license", metavar="ID", help="for the card, as the Hub names it: apache-2.0, cc-by-4.0, …")
    parser.add_argument("--dry-run", action="store_true", help="show the files and the card, and push nothing")
    options.add_runs_dir(parser)
    parser.epilog = "Weights, configuration, tokenizer and a card are pushed; no data, logs or checkpoints."


def run(arguments: argparse.Namespace) -> None:
    from recipes.visible import visible
    from runner.runs.push import Where, content, push
    from runner.runs.rundir import find

    found = find(arguments.run, arguments.runs_dir)
    where = Where(
        repository=arguments.repository,
        private=arguments.private,
        revision=arguments.revision,
        merged=arguments.merged,
        license=arguments.license,
    )
    what = content(found, where)
    for name, path in what.files.items():
        options.say(f"  {name}  {path.stat().st_size / 1e6:,.1f} MB")
    if what.left_out:
        options.say(f"not pushed: {', '.join(what.left_out)}")
    if not where.license:
        options.say(
            "note: the card says no licence; --license ID adds one, and that of the base and the data may bind it"
        )
    if arguments.dry_run:
        print(visible(what.card))
        return
    print(push(found, where, what, options.say))
