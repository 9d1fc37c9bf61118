"""`data.thinking: drop`: the thinking goes, the answer stays."""

from __future__ import annotations

from typing import Any

import pytest

from runner.data.thinking import without_thinking


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        ({"content": "Four.", "reasoning_content": "2 + 2"}, {"content": "Four."}),
        ({"content": "<think>\n2 + 2\n</think>\n\nFour."}, {"content": "Four."}),
        ({"content": "<think></think>Four. <think>no block</think>"}, {"content": "Four. <think>no block</think>"}),
        ({"content": "[THINK]x[/THINK] Four."}, {"content": "Four."}),
        ({"content": "<think>2 + 2 Four."}, {"content": "<think>2 + 2 Four."}),
        ({"content": "<think>only this</think>"}, {"content": "<think>only this</think>"}),
        ({"content": "Four.", "weight": 0}, {"content": "Four.", "weight": 0}),
        ({"content": "<think>x</think>", "tool_calls": [1]}, {"content": "", "tool_calls": [1]}),
    ],
)
def test_replies(reply: dict[str, Any], left: dict[str, Any]) -> None:
    asked = {"role": "user", "content": "<think>not mine</think> 2 + 2?"}
    row = {"messages": [asked, {"role": "assistant", **reply}], "label": True}
    found, some = without_thinking(row)
    assert found == {"messages": [asked, {"role": "assistant", **left}], "label": True}
    assert some == (reply != left)
