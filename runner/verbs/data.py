"""`recipe data`: training data looked at before anything is trained."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = (
    "recipe data check rows.jsonl",
    "recipe data check quickstart",
    "recipe data preview quickstart --row 3 --ids",
    "recipe data convert rows.csv --to messages -o rows.jsonl",
    "recipe data sample 8 --format preference -o starter.jsonl",
    "recipe data split rows.jsonl --fraction 0.1",
)
SHOWN = 50


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB", required=True, dest="data_verb")
    _check(verbs.add_parser("check", help="every problem with its line, duplicates, languages, lengths in tokens"))
    _preview(verbs.add_parser("preview", help="a row as it is trained on, with its loss mask"))
    _convert(verbs.add_parser("convert", help="rows of any readable file as JSON lines of another format"))
    _sample(verbs.add_parser("sample", help="a valid starter file of a format"))
    _split(verbs.add_parser("split", help="two files beside a file: rows to train on, rows held out"))


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
    parser.add_argument(
        "--diff", action="store_true", help="compare the ids before each reply with those that a model is asked by"
    )
    parser.add_argument("--json", action="store_true", help="print ids, loss mask and notes as JSON")
    options.add_env(parser)
    options.add_set(parser)


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file or directory of rows; its format is told from the first")
    parser.add_argument("--to", required=True, choices=_formats(), help="the format to write")
    _add_output(parser)


def _sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", type=options.count, metavar="N", help="how many rows")
    parser.add_argument("--format", required=True, choices=_formats(), help="the format of the rows")
    _add_output(parser)


def _split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file of rows, written as FILE.train and FILE.validation .jsonl")
    parser.add_argument("--fraction", type=_fraction, required=True, metavar="F", help="how many to hold out, 0 to 1")
    parser.add_argument("--seed", type=int, default=42, help="of the choice (default: 42, as data.seed)")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=options.path, metavar="FILE", help="write here (default: stdout)")


def _formats() -> list[str]:
    from runner.data.rewrite import WRITERS

    return list(WRITERS)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int | None:
    verbs = {
        "check": _run_check,
        "preview": _run_preview,
        "convert": _run_convert,
        "sample": _run_sample,
        "split": _run_split,
    }
    return verbs[arguments.data_verb](arguments)


def _run_convert(arguments: argparse.Namespace) -> int:
    from runner.training.rewrite import convert_file

    options.put(convert_file(arguments.file, arguments.to, arguments.output, options.say))
    return 0


def _run_sample(arguments: argparse.Namespace) -> int:
    from runner.data.samples import samples
    from runner.training.rewrite import write_samples

    options.put(write_samples(samples(arguments.count, arguments.format), arguments.output))
    return 0


def _run_split(arguments: argparse.Namespace) -> int:
    from runner.training.rewrite import split_file

    for target, count in split_file(arguments.file, arguments.fraction, arguments.seed, options.say):
        print(f"{target}: {count:,} rows")
    return 0


def _run_preview(arguments: argparse.Namespace) -> int:
    import json

    from recipes import load
    from recipes.typed import to_json
    from runner.training import views
    from runner.training.inspect import preview_recipe

    loaded = load(arguments.recipe, arguments.overrides)
    found = preview_recipe(loaded, arguments.row, arguments.env, options.say, diff=arguments.diff)
    print(
        json.dumps(to_json(found), ensure_ascii=True)
        if arguments.json
        else views.preview_text(found, colour=options.colours(), ids=arguments.ids)
    )
    return 0


def _run_check(arguments: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from recipes import load
    from recipes.errors import UserError
    from recipes.load import names
    from recipes.typed import to_json
    from runner.training import views
    from runner.training.inspect import check_file, check_recipe

    what, loaded = arguments.what, None
    if Path(what).suffix in (".yaml", ".yml") or (what in names() and not Path(what).exists()):
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
