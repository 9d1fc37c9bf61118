"""`recipe new`: a copy of a recipe to edit."""

from __future__ import annotations

import argparse
import shlex

from runner.verbs import options

EXAMPLES = (
    "recipe new qwen3_8b_dpo_qlora_24gb",
    "recipe new quickstart -o mine.yaml --set training.max_steps=30 --set data.train[0].path=mine.jsonl",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)
    parser.add_argument(
        "-o", "--output", type=options.path, metavar="FILE", help="write it there (default: NAME.yaml, here)"
    )
    options.add_set(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import load
    from runner.training.copying import copy_recipe

    target = copy_recipe(load(arguments.recipe, arguments.overrides), arguments.output)
    print(target)
    typed = shlex.quote(str(target))
    options.say(f"edit it; then: recipe plan {typed}\n               recipe run {typed}")
