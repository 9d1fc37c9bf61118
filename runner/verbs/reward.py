"""`recipe reward try`: a GRPO recipe's rewards on sample replies, before anything is trained."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe reward try grpo_sums", 'recipe reward try mine.yaml --reply "It is 42." --answer 42')


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "score sample replies: by default each row's answer, an empty reply and a wrong one"
    attempt = parser.add_subparsers(metavar="VERB", required=True).add_parser("try", help=text, description=text)
    options.add_recipe(attempt)
    which = attempt.add_mutually_exclusive_group()
    which.add_argument("--reply", help="score this reply")
    which.add_argument(
        "--replies", type=options.path, metavar="FILE", help="JSON lines with reply and answer, or rollouts"
    )
    attempt.add_argument("--answer", help="reference for --reply (default: the first row's)")
    attempt.add_argument("--json", action="store_true", help="print one JSON object per reply")
    options.add_set(attempt)


def run(arguments: argparse.Namespace) -> None:
    import json

    from recipes import load
    from runner.training import reward

    loaded = load(arguments.recipe, arguments.overrides)
    tried = reward.try_rewards(loaded, arguments.reply, arguments.replies, arguments.answer)
    if arguments.json:
        for one in tried:
            print(json.dumps(vars(one), ensure_ascii=False))
    else:
        print(reward.text(tried))
