"""`recipe tokens`: whether a model is asked by the tokens that its replies were trained behind."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe tokens quickstart", "recipe tokens quickstart --server http://127.0.0.1:8000")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("--server", metavar="URL", help="ask a server too, vLLM's or llama.cpp's")
    options.add_trust(parser)
    options.add_runs_dir(parser)
    parser.epilog = "Compared are the replies of the first training rows. Exit code 1 where the tokens differ."


def run(arguments: argparse.Namespace) -> int:
    from recipes import UserError
    from runner.runs.rundir import find
    from runner.runs.tokens import differences, of_server, of_transformers, replies
    from runner.runs.trust import check_links, check_trusted

    found = find(arguments.run, arguments.runs_dir)
    check_links(found)
    check_trusted(found, found.recipe().recipe, "tokens", trusted=arguments.trust_run)
    trained = replies(found)
    if not (found.model / "tokenizer_config.json").is_file():
        raise UserError(f"{found.model} has no tokenizer yet: the run has state {found.state()}")
    asked = {"transformers": of_transformers(found, trained, options.say)}
    if arguments.server:
        asked[arguments.server] = of_server(found, trained, arguments.server)
    different = {by: differences(trained, ids) for by, ids in asked.items()}
    for by, some in different.items():
        print(f"{by}: {len(trained) - len(some)} of {len(trained)} prompts are as they were trained")
        for one in some:
            print(f"  {one}")
    return int(any(different.values()))
