"""`recipe score`: predictions that exist already, scored as the official code does."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe score longbench pred/my-model", "recipe score longbench pred_e/my-model --e --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", choices=("longbench",))
    parser.add_argument(
        "directory",
        type=options.path,
        help="directory of <subset>.jsonl files with pred, answers, all_classes and length",
    )
    parser.add_argument(
        "--e", action="store_true", help="LongBench-E: scores by length bucket, of <subset>_e.jsonl too"
    )
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def run(arguments: argparse.Namespace) -> None:
    import json

    from eval.score import passed_over, score_longbench

    scores = score_longbench(arguments.directory, e=arguments.e)
    if left_out := passed_over(arguments.directory, arguments.e):
        options.say(left_out)
    if arguments.json:
        print(json.dumps(scores, ensure_ascii=False))
        return
    from runner.runs.show import table

    print(table([("subset", "score"), *((name, json.dumps(value)) for name, value in scores.items())]))
