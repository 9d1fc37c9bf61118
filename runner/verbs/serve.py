"""`recipe serve`: a run's model behind vLLM."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe serve quickstart", "recipe serve quickstart --port 8001 -- --max-model-len 4096")
PASSES_ON = True  # what follows two dashes


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=options.port, default=8000, help="port to listen on (default: 8000)")
    options.add_trust(parser)
    options.add_runs_dir(parser)
    parser.epilog = "Stop with Ctrl-C. Arguments after two dashes go to vLLM."


def run(arguments: argparse.Namespace) -> None:
    from runner.runs.rundir import find
    from runner.runs.serve import serve

    found = find(arguments.run, arguments.runs_dir)
    serve(found, arguments.host, arguments.port, arguments.more, options.say, trusted=arguments.trust_run)
