"""`recipe merge`: one model of an adapter and its base."""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.errors import UserError
from recipes.paths import lookup_problem
from runner.verbs import options

EXAMPLES = (
    "recipe merge quickstart",
    "recipe merge quickstart:5 --test-prompt 'What is a bond?'",
    "recipe merge ~/adapters/finance --output ~/models/finance --dtype bfloat16",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "a run's name or directory, one of its checkpoints, or an adapter's directory"
    parser.add_argument("run", metavar="RUN[:STEP]|ADAPTER", help=text)
    parser.add_argument(
        "--output", type=options.path, help="directory of the merged model (default: merged/ in the run)"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the merged weights (default: auto, the base model's)",
    )
    parser.add_argument("--test-prompt", default="", metavar="TEXT", help="show the likeliest reply of both to it")
    parser.add_argument("--fast", action="store_true", help="do not check that both answer alike")
    parser.add_argument("--base-model", metavar="MODEL", help="of an adapter's directory (default: what it names)")
    options.add_trust(parser)
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes.model_files import ADAPTER
    from runner.runs.merge import How, merge, merge_adapter
    from runner.runs.trust import check_links, check_trusted
    from runner.training.parent import named, weights_of
    from runner.training.train import Options

    how = How(dtype=arguments.dtype, check=not arguments.fast, test_prompt=arguments.test_prompt)
    if not lookup_problem(arguments.run, Path.cwd()) and Path(arguments.run, ADAPTER).is_file():
        print(merge_adapter(Path(arguments.run), arguments.base_model, arguments.output, options.say, how=how))
        return
    if arguments.base_model:
        raise UserError("--base-model: goes with an adapter's directory; a run's adapter is of the run's own base")
    run, step = named(arguments.run, arguments.runs_dir)
    adapter, output = None, arguments.output
    if step is not None:
        check_links(run)
        check_trusted(run, run.recipe().recipe, "merge", trusted=arguments.trust_run)
        trusting = Options(runs_dir=arguments.runs_dir, trust_run=arguments.trust_run, say=options.say)
        adapter = weights_of(run, step, trusting, make=True)
        output = output or (None if adapter == run.model else adapter.with_name(f"{adapter.name}-merged"))
    print(merge(run, output, options.say, trusted=arguments.trust_run, adapter=adapter, how=how))
