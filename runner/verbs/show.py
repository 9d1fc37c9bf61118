"""`recipe show`: the text of a recipe."""

from __future__ import annotations

import argparse
import sys

from runner.verbs import options

EXAMPLES = ("recipe show quickstart", "recipe show qwen3_8b_dpo_qlora_24gb")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import load

    sys.stdout.write(load(arguments.recipe).source.decode("utf-8-sig"))
