"""`recipe list`: the catalogue, or those of it that fit a GPU."""

from __future__ import annotations

import argparse

from recipes.methods import METHODS
from runner.verbs import options

EXAMPLES = (
    "recipe list",
    "recipe list --gpu 24GB --method dpo",
    "recipe list --gpu h100 --gpus 8 --model llama --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpu", metavar="GPU", help="only those that fit it: a card (h100, rtx4090, …) or its memory (24GB)"
    )
    parser.add_argument("--gpus", type=options.count, metavar="N", help="how many GPUs, of all nodes (default: 1)")
    parser.add_argument("--method", choices=tuple(METHODS), help="only those that train by it")
    parser.add_argument("--model", metavar="TEXT", help="only those with it in their name or model, such as qwen3")
    parser.add_argument("--json", action="store_true", help="print them as JSON; memory in bytes")


def run(arguments: argparse.Namespace) -> None:
    from runner.training.listing import list_recipes

    said = list_recipes(arguments.gpu, arguments.gpus, arguments.method, arguments.model, as_json=arguments.json)
    if said:
        options.say(said)
