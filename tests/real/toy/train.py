"""Makes a checkpoint a step, a copy of the base model, and a loss that falls."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path


def main(model: str, checkpoints: str, metrics: str, start: str, stop: str, total: str) -> None:
    with Path(metrics).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"event": "begin", "total_steps": int(total)}) + "\n")
        for step in range(int(start) + 1, int(stop) + 1):
            time.sleep(0.4)
            part = Path(checkpoints) / f".part-{step}"
            shutil.copytree(model, part)
            part.rename(Path(checkpoints) / f"step-{step}")
            stream.write(json.dumps({"step": step, "loss": 3 / step}) + "\n")
            stream.flush()


if __name__ == "__main__":
    main(*sys.argv[1:7])
