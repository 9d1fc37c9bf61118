"""`recipe schema`: what editors complete and check recipes by."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe schema > recipe.schema.json",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_arguments: argparse.Namespace) -> None:
    from recipes.schema import SCHEMA_FILE

    options.put(SCHEMA_FILE.read_text(encoding="utf-8"))
