"""The longest of the tokenized training rows as a data set of their own: what a trial of memory trains on.

Usage, in a backend's environment: python -m runner.data.longest data/tokenized TARGET ROWS
"""

from __future__ import annotations

import sys
from itertools import cycle, islice


def longest(source: str, target: str, count: int) -> None:
    """Write `count` rows, the longest first; where there are fewer, they come again."""
    import numpy as np
    import pyarrow.compute as pc
    from datasets import DatasetDict, load_from_disk

    rows = load_from_disk(source)["train"]
    parts = [name for name in rows.column_names if name.endswith("input_ids")]  # a preference's two replies
    lengths = sum(pc.list_value_length(rows.data.column(name)).to_numpy() for name in parts)
    order = np.argsort(-lengths, kind="stable")
    DatasetDict({"train": rows.select(list(islice(cycle(order), count)))}).save_to_disk(target)


if __name__ == "__main__":
    longest(sys.argv[1], sys.argv[2], int(sys.argv[3]))
