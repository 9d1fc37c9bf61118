"""CPU time of our ROUGE-1/2/L beside the package rouge_score, on the same pairs of texts, and whether all are equal.

python -m benchmarks.rouge [QMSUM.jsonl]

Of QMSum's own file (github.com/Yale-LILY/QMSum, data/ALL/jsonl) each answer is scored against the next. Without it the
script makes texts of its own. Both run in one process, in turns, with and without stemmer; the median of five rounds
counts. Exit code 1: less than 50 times faster, or a value that differs in its last digit.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import venv
from recipes.files import write_json
from runner.files import code_directory
from runner.machine.process import clean_environment

PACKAGES = ("rouge_score==0.1.2", "rouge-score-rs==0.2.1", "pyyaml")
TARGET = 50.0
STEMS = ("rate", "bond", "invest", "pay", "fall", "meet", "discuss", "agree", "connect", "large", "quick", "industry")
ENDINGS = ("", "s", "ed", "ing", "ly", "ment", "ation", "ies")

INSIDE = """
import json, statistics, sys, time
from pathlib import Path
from rouge_score.rouge_scorer import RougeScorer
from eval.metrics.similarity import rouges
pairs = json.loads(Path(sys.argv[1]).read_text())
def timed(call):
    start = time.process_time()
    found = [call(*pair) for pair in pairs]
    return found, time.process_time() - start
for stem in (True, False):
    peer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stem)
    slow, fast = [], []
    for _ in range(5):
        theirs, seconds = timed(lambda p, r: {k: s.fmeasure for k, s in peer.score(r, p).items()})
        slow.append(seconds)
        ours, seconds = timed(lambda p, r: rouges(p, r, stem=stem))
        fast.append(seconds)
    seconds = {"ours": statistics.median(fast), "theirs": statistics.median(slow)}
    print(json.dumps({"stem": stem, "equal": ours == theirs} | seconds))
"""


def main(source: Path | None) -> int:
    texts = answers(source) if source else made_up()
    pairs = list(pairwise(texts))
    length = sum(len(text.split()) for text in texts) / len(texts)
    print(f"{len(pairs)} pairs, {length:.0f} words a text, {f'of {source}' if source else 'of our own making'}")
    python = venv("rouge", PACKAGES)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "pairs.json"
        write_json(path, pairs)
        env = clean_environment({"PYTHONPATH": str(code_directory())})
        out = subprocess.check_output([str(python), "-c", INSIDE, str(path)], cwd=work, env=env, text=True)
    ok = True
    for found in map(json.loads, out.splitlines()):
        ratio = found["theirs"] / found["ours"]
        ok &= found["equal"] and ratio >= TARGET
        print(f"stemmer {found['stem']!s:5} ours {found['ours']:.4f} CPU-s, rouge_score {found['theirs']:.3f} CPU-s: "
              f"{ratio:.0f} times; values {'equal' if found['equal'] else 'DIFFER'}")  # fmt: skip
    return int(not ok)


def answers(path: Path) -> list[str]:
    meetings = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kinds = ("general_query_list", "specific_query_list")
    return [query["answer"] for meeting in meetings for kind in kinds for query in meeting[kind]]


def made_up() -> list[str]:
    """281 texts of 10 to 150 words over words that the stemmer changes: as many, and as long, as QMSum's answers."""
    draw = random.Random(3)

    def word() -> str:
        return draw.choice(STEMS) + draw.choice(ENDINGS) + draw.choice(("", "", "", ",", "."))

    return [" ".join(word() for _ in range(draw.randint(10, 150))) for _ in range(281)]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if sys.argv[1:] else None))
