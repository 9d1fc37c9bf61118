"""Which evaluation suites there are, and which of them measures a metric; what they do lies under eval/suites."""

from __future__ import annotations

import re
from pathlib import Path

SUITES = ("perplexity", "preference", "truthfulqa", "truthfulqa_mc", "qmsum", "longbench", "reference", "generation")
ROW_SUITES = ("perplexity", "preference", "generation", "reference")  # those that ask the rows of a run
JUDGED = "reference"  # the one whose replies a judge is asked about, and measures of the user's own
REFERENCE_METRICS = ("rougeL", "style", "coverage", "numbers", "similarity", "usefulness", "judge")  # its own
SCORED = ("truthfulqa", "reference")  # those whose free answers a scorer sets beside the reference
GENERATING = (*SCORED, "qmsum", "longbench", "generation")
OF_SCORES = "preference"  # the one that a reward model answers, by its own score
LM_EVAL = "lm_eval:"  # begins the name of a suite that lm-evaluation-harness asks: lm_eval:TASK, lm_eval:FILE.yaml

# Metric ids begin with their suite's name and a dot, but for these.
_MEASURED_BY = {
    "perplexity": ("perplexity",),
    "test_loss": ("perplexity",),
    "truthfulqa.mc1": ("truthfulqa", "truthfulqa_mc"),
    "truthfulqa.mc2": ("truthfulqa", "truthfulqa_mc"),
}


def no_replies(suite: str) -> str:
    """Why a reward model cannot be asked a suite; "" where it can."""
    text = f"{suite} cannot be asked of a reward model, which scores replies and writes none; allowed: {OF_SCORES}"
    return "" if suite == OF_SCORES else text


def suites_of(metric: str) -> tuple[str, ...]:
    """The suites that measure a metric.

    Those of lm-eval are `lm_eval:TASK.METRIC`, or `lm_eval:GROUP:TASK.METRIC` of one task in a group; the names of a
    few tasks hold dots, those of metrics none.
    """
    if metric.startswith(LM_EVAL):
        before = metric.rpartition(".")[0] or metric
        return (":".join(before.split(":")[:2]),)
    return _MEASURED_BY.get(metric, (metric.partition(".")[0],))


def task_file(suite: str) -> str | None:
    """The path in a suite that names a task file of lm-eval (`lm_eval:tasks/mine.yaml`); None for any other."""
    text = suite.removeprefix(LM_EVAL)
    is_path = "/" in text or text.endswith((".yaml", ".yml"))
    return text if suite.startswith(LM_EVAL) and is_path else None


def absolute_suite(suite: str, root: Path) -> str:
    """A suite with the path of its task file, where it names one, made absolute: relative to `root` until then."""
    path = task_file(suite)
    return LM_EVAL + str((root / Path(path).expanduser()).resolve()) if path else suite


def suite_id(suite: str) -> str:
    """The name under which a suite's results stand: a task file's own name in place of its path."""
    path = task_file(suite)
    return LM_EVAL + re.sub(r"[^\w.-]", "-", Path(path).stem) if path else suite


def records_file(suite: str) -> str:
    """The name of the file that holds a suite's records."""
    return suite.replace(":", ".") + ".jsonl"
