"""`recipe data`: training data looked at before anything is trained."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = (
    "recipe data check rows.jsonl",
    "recipe data check quickstart",
    "recipe data preview quickstart --row 3 --ids",
)
SHOWN = 50


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB", required=True, dest="data_verb")
    _check(verbs.add_parser("check", help="every problem with its line, duplicates, languages, lengths in tokens"))
    _preview(verbs.add_parser("preview", help="a row as it is trained on, with its loss mask"))


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="FILE|RECIPE", help="a file or directory of rows, or a recipe")
    parser.add_argument("--model", metavar="MODEL", help="count tokens of a FILE's rows with this model's tokenizer")
    parser.add_argument(
        "--problems", type=options.count, default=SHOWN, metavar="N", help=f"show N problems (default: {SHOWN})"
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    options.add_env(parser)
    options.add_set(parser)


def _preview(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)
    parser.add_argument("--row", type=options.count, default=1, metavar="N", help="the Nth training row (default: 1)")
    parser.add_argument("--ids", action="store_true", help="list each token with its id and whether it has loss")
    parser.add_argument("--json", action="store_true", help="print ids, loss mask and notes as JSON")
    options.add_env(parser)
    options.add_set(parser)


def run(arguments: argparse.Namespace) -> int | None:
    return {"check": _run_check, "preview": _run_preview}[arguments.data_verb](arguments)


def _run_preview(arguments: argparse.Namespace) -> int:
    import json
    import os
    import sys

    from recipes import load
    from recipes.typed import to_json
    from runner.training import views
    from runner.training.inspect import preview_recipe

    found = preview_recipe(load(arguments.recipe, arguments.overrides), arguments.row, arguments.env, options.say)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(
        json.dumps(to_json(found), ensure_ascii=True)
        if arguments.json
        else views.preview_text(found, colour=colour, ids=arguments.ids)
    )
    return 0


def _run_check(arguments: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from recipes import load
    from recipes.errors import UserError
    from recipes.load import catalogue
    from recipes.typed import to_json
    from runner.training import views
    from runner.training.inspect import check_file, check_recipe

    what, loaded = arguments.what, None
    if Path(what).suffix in (".yaml", ".yml") or (what in catalogue() and not Path(what).exists()):
        if arguments.model:
            raise UserError(f"--model is for a FILE; {what} is a recipe: --set model.path={arguments.model}")
        loaded = load(what, arguments.overrides)
        found = check_recipe(loaded, arguments.problems, arguments.env, options.say)
    elif arguments.overrides:
        raise UserError(f"--set is for a RECIPE; {what} is a file of rows")
    else:
        found = check_file(what, arguments.model, arguments.problems, options.say)
    data = loaded.recipe.data if loaded else None
    print(json.dumps(to_json(found), ensure_ascii=True) if arguments.json else views.check_text(found))
    refused = views.refusal(found, data)
    if refused:
        options.say(refused)
    return 2 if refused else 0
