"""Which evaluation suites there are, and which of them measures a metric; what they do lies under eval/suites."""

from __future__ import annotations

SUITES = ("perplexity", "preference", "truthfulqa", "truthfulqa_mc", "qmsum", "longbench", "reference", "generation")
ROW_SUITES = ("perplexity", "preference", "generation", "reference")  # those that ask the rows of a run
JUDGED = "reference"  # the one whose replies a judge is asked about
SCORED = ("truthfulqa", "reference")  # those whose free answers a scorer sets beside the reference
GENERATING = ("truthfulqa", "qmsum", "longbench", "reference", "generation")

# Metric ids begin with their suite's name and a dot, but for these.
_MEASURED_BY = {
    "perplexity": ("perplexity",),
    "test_loss": ("perplexity",),
    "truthfulqa.mc1": ("truthfulqa", "truthfulqa_mc"),
    "truthfulqa.mc2": ("truthfulqa", "truthfulqa_mc"),
}


def suites_of(metric: str) -> tuple[str, ...]:
    """The suites that measure a metric."""
    return _MEASURED_BY.get(metric, (metric.partition(".")[0],))
