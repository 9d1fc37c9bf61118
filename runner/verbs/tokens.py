"""`recipe tokens`: whether a model is asked by the tokens that its replies were trained behind."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runner.verbs import options

if TYPE_CHECKING:
    from runner.runs.tokens import Difference

EXAMPLES = (
    "recipe tokens quickstart",
    "recipe tokens quickstart --row 3",
    "recipe tokens quickstart --server http://127.0.0.1:8000",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--row",
        type=options.count,
        metavar="N",
        help="of the Nth training row, with its tokens and loss mask as they were trained on",
    )
    parser.add_argument("--server", metavar="URL", help="ask a server too, vLLM's or llama.cpp's")
    options.add_trust(parser)
    options.add_runs_dir(parser)
    parser.epilog = (
        "Compared are the replies of the first training rows, or of the one of --row (numbered as in `recipe data "
        "preview`). Exit code 1 where the tokens differ."
    )


def run(arguments: argparse.Namespace) -> int:
    from recipes import UserError
    from runner.runs.rundir import find
    from runner.runs.tokens import differences, of_server, of_transformers, replies, trained_row
    from runner.runs.trust import check_links, check_trusted

    found = find(arguments.run, arguments.runs_dir)
    check_links(found)
    check_trusted(found, found.recipe().recipe, "tokens", trusted=arguments.trust_run)
    if not (found.model / "tokenizer_config.json").is_file():
        raise UserError(f"{found.model} has no tokenizer yet: the run has state {found.state()}")
    row = trained_row(found, arguments.row, options.say) if arguments.row else None
    trained = row.replies if row else replies(found)
    asked = {"transformers": of_transformers(found, trained, options.say)}
    if arguments.server:
        asked[arguments.server] = of_server(found, trained, arguments.server)
    different = {by: differences(trained, ids) for by, ids in asked.items()}
    if row:
        from runner.data.inspected import Preview
        from runner.training.views import preview_text

        place = f"{found.path / 'data' / 'train.jsonl'}:{arguments.row}"
        shown = Preview(row=arguments.row, place=place, truncated=False, parts=row.parts, notes=(), problems=())
        print(preview_text(shown, colour=options.colours(), ids=True, marks=_marks(different)), end="\n\n")
    for by, some in different.items():
        print(f"{by}: {len(trained) - len(some)} of {len(trained)} prompts are as they were trained")
        for one in some:
            print(f"  {one}")
    return int(any(different.values()))


def _marks(different: Mapping[str, Sequence[Difference]]) -> dict[int, str]:
    """What is said of the tokens at which prompts begin to differ, by their places in the row."""
    marks: dict[int, str] = {}
    for by, some in different.items():
        for one in some:
            here = str(one.asked[one.at]) if one.at < len(one.asked) else "nothing more"
            told = f"{by} asks for turn {one.reply.turn} by {here}"
            marks[one.at] = f"{marks[one.at]}; {told}" if one.at in marks else told
    return marks
