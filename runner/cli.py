"""The command line: `recipe VERB …`. Exit codes: 0 done, 1 a step failed, 2 mistake, 3 a gate's doubt, 130 stopped."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from recipes.errors import UserError, did_you_mean
from recipes.visible import visible
from runner.verbs import VERBS


class Verb(Protocol):
    """What a module under runner/verbs has."""

    EXAMPLES: tuple[str, ...]

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's options."""

    def run(self, arguments: argparse.Namespace) -> int | None:
        """Do the work; an exit code other than 0 where one is due."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the boundary at which mistakes and failures are printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character gets its code, not a traceback
            stream.reconfigure(errors="backslashreplace")
    verb, arguments = _parse(list(sys.argv[1:] if argv is None else argv))
    try:
        code = verb.run(arguments) or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        _tell(error)
        return 2
    except BrokenPipeError:
        # The reader of our stdout has gone (`recipe runs | head`): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - re-raised where it is our own bug
        return _failed(error)


def _failed(error: Exception) -> int:
    from runner.failure import Failure, out_of_room
    from runner.machine.process import Interrupted

    if isinstance(error, Interrupted):
        _tell(f"stopped by {error}")
        return 128 + error.number
    if isinstance(error, OSError):
        error = out_of_room(error) or error
    if isinstance(error, Failure):
        _tell(error)
        return 1
    raise error


def _tell(what: object) -> None:
    """On stderr; where nobody reads that, the exit code has to do."""
    with contextlib.suppress(OSError, ValueError):
        print(visible(str(what)), file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> tuple[Verb, argparse.Namespace]:
    """The verb and its arguments, with what follows two dashes as `more`; only some verbs pass such on."""
    at = argv.index("--") if "--" in argv else len(argv)
    name = next((word for word in argv[:at] if not word.startswith("-")), "")
    parser = argparse.ArgumentParser(
        prog="recipe",
        description="Fine-tune and evaluate language models from one YAML recipe, on LLaMA-Factory or verl.",
        epilog="Start with: recipe list; recipe plan quickstart; recipe run quickstart",
    )
    parser.add_argument("--version", action="version", version=_Version("%(prog)s"))
    if name and name not in VERBS:
        parser.error(f"unknown verb {name!r}{did_you_mean(name, VERBS) or '; see recipe --help'}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for known, text in VERBS.items():
        own = verbs.add_parser(known, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if known == name:  # the others need not be imported
            verb: Verb = import_module(f"runner.verbs.{name}")
            verb.arguments(own)
            own.formatter_class = argparse.RawDescriptionHelpFormatter
            examples = "\n".join(f"  {line}" for line in verb.EXAMPLES)
            own.epilog = "\n\n".join(filter(None, [own.epilog, f"examples:\n{examples}"]))
    arguments = parser.parse_args(argv[:at])
    arguments.more = argv[at + 1 :]
    if arguments.more and not getattr(verb, "PASSES_ON", False):
        parser.error(f"unrecognized arguments: {' '.join(arguments.more)}")
    return verb, arguments


class _Version(str):
    """Read only when it is printed: importlib.metadata is a tenth of what `--help` costs."""

    def __mod__(self, _values: object) -> str:
        from importlib import metadata

        return f"recipe-runner {metadata.version('recipe-runner')}"


if __name__ == "__main__":
    sys.exit(main())
