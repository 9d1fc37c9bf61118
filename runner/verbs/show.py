"""`recipe show`: the text of a recipe."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe show quickstart", "recipe show qwen3_8b_dpo_qlora_24gb")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import find, load, stages_of

    name = arguments.recipe
    each = [load(one, scoring=True) for one in stages_of(name, scoring=True)]
    source = each[0].source if len(each) == 1 else find(name).read_bytes()
    options.put(source.decode("utf-8-sig"))
