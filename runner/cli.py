"""The command line: `recipe VERB …`.

Exit codes: 0 done, 1 a step failed, 2 mistake, 3 a gate in doubt or an export that is not good, 130 stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from recipes.errors import UserError, did_you_mean
from recipes.visible import visible
from runner.verbs import VERBS
from runner.verbs.parser import Verb, parser_with, verb_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the boundary at which mistakes and failures are printed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as `>&-` does
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character gets its code, not a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        verb, arguments = _parse(list(sys.argv[1:] if argv is None else argv))
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
    parser = parser_with([name])
    if name and name not in VERBS:
        parser.error(f"unknown verb {name!r}{did_you_mean(name, VERBS) or '; see recipe --help'}")
    arguments = parser.parse_args(argv[:at])
    arguments.more = argv[at + 1 :]
    verb = verb_of(name)
    if arguments.more and not getattr(verb, "PASSES_ON", False):
        parser.error(f"unrecognized arguments: {' '.join(arguments.more)}")
    return verb, arguments


if __name__ == "__main__":
    sys.exit(main())
