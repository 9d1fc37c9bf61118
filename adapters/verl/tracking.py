"""verl's loggers, for both of its trainers."""

from __future__ import annotations

import json
from typing import Any

from verl.utils import tracking


class Tracking(tracking.Tracking):  # type: ignore[misc]
    """verl's loggers, whose metrics file opens with the number of steps."""

    def __init__(self, *args: Any, config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, config=config, **kwargs)
        begin = {"event": "begin", "total_steps": config["trainer"]["total_training_steps"]}
        self.logger["file"].fp.write(json.dumps(begin).encode() + b"\n")
