"""lm-evaluation-harness as suites: `lm_eval:TASK` for any task, group or task file of it, asked in its own worker.

Metrics are `lm_eval:TASK.METRIC`, with `,FILTER` behind where lm-eval names one, and `lm_eval:GROUP:TASK.METRIC` of
each task in a group.

Example record: {"id": "gsm8k/0", "subset": "gsm8k", "question": "Question: Janet's ducks lay 16 eggs … Answer:",
"output": "She sells 9 … #### 18", "filtered": {"strict-match": ["18"]}, "target": "… #### 18",
"exact_match,strict-match": 1.0}
"""

from __future__ import annotations

from eval.suites import Values

# lm-eval's metrics of log-likelihoods; their records hold the summed nats and what these are divided by.
PER = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}
LOSSES = (*PER, "perplexity")
OF_TASK = "task "  # before a field of a task's own number, in the records of a group


def fields(key: str) -> tuple[str, str]:
    """Where the records hold a metric: the field of its weights ("" of a plain mean), and that of its values."""
    name, comma, of_filter = key.partition(",")
    return (PER[name] + comma + of_filter, f"nats{comma}{of_filter}") if name in PER else ("", key)


def values(metric: str) -> Values | None:
    """Where a metric's samples stand: lower is better of losses, and of what the task says so (lower_is_better)."""
    names, _, key = metric.rpartition(".")
    _, _, task = names.partition(":")[2].partition(":")
    name = key.partition(",")[0]
    weight, field = fields(key)
    return Values(
        key=(OF_TASK if task else "") + field,
        better="lower" if name in LOSSES else "higher",
        weight=weight,
        subset=task,
        examples=name not in LOSSES,
    )
