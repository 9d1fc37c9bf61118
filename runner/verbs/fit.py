"""`recipe fit`: whether a recipe fits a GPU, how long it takes, and what makes it fit."""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.verbs import options

EXAMPLES = ("recipe fit qwen3_4b_financial --gpu 24GB", "recipe fit mine.yaml --gpu h100 --gpus 8 --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)
    parser.add_argument(
        "--gpu", metavar="GPU", help="a card (h100, rtx4090, …) or its memory (24GB); default: all known"
    )
    parser.add_argument(
        "--gpus", type=options.count, metavar="N", help="how many GPUs (default: those of this machine)"
    )
    parser.add_argument("--json", action="store_true", help="print the estimate as JSON")
    options.add_runs_dir(parser)
    options.add_set(parser)


def run(arguments: argparse.Namespace) -> int:
    from recipes import load
    from runner.training.fitting import show_fit

    runs_dir: Path = arguments.runs_dir
    fits = show_fit(
        load(arguments.recipe, arguments.overrides), runs_dir, arguments.gpu, arguments.gpus, arguments.json
    )
    return 0 if fits else 1
