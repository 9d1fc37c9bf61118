"""The parser of the command line, with the options of one verb or of all."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from importlib import import_module
from typing import Protocol, cast

from runner.verbs import VERBS


class Verb(Protocol):
    """What a module under runner/verbs has."""

    EXAMPLES: tuple[str, ...]

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's options."""

    def run(self, arguments: argparse.Namespace) -> int | None:
        """Do the work; an exit code other than 0 where one is due."""


def verb_of(name: str) -> Verb:
    return cast("Verb", import_module(f"runner.verbs.{name}"))


def parser_with(names: Collection[str]) -> argparse.ArgumentParser:
    """The parser of `recipe`, which knows every verb and the options of those named: others need not be imported."""
    parser = argparse.ArgumentParser(
        prog="recipe",
        description="Fine-tune and evaluate language models from one YAML recipe, on LLaMA-Factory or verl.",
        epilog="Start with: recipe list; recipe plan quickstart; recipe run quickstart",
    )
    parser.add_argument("--version", action="version", version=_Version("%(prog)s"))
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for known, text in VERBS.items():
        own = verbs.add_parser(known, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if known in names:
            verb = verb_of(known)
            verb.arguments(own)
            own.formatter_class = argparse.RawDescriptionHelpFormatter
            examples = "\n".join(f"  {line}" for line in verb.EXAMPLES)
            own.epilog = "\n\n".join(filter(None, [own.epilog, f"examples:\n{examples}"]))
    return parser


class _Version(str):
    """Read only when it is printed: importlib.metadata is a tenth of what `--help` costs."""

    def __mod__(self, _values: object) -> str:
        from runner.files import own_version

        return f"recipe-runner {own_version()}"
