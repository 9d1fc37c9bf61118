"""Thinking at evaluation: asked for or not by the template's own variable, and never scored as the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import Recipe

pytestmark = pytest.mark.real

# As Qwen3's: a thought is begun for the reply, or an empty one is written where there is to be none.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def test_a_thought_without_end_is_no_answer(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """Random weights never end a thought that the prompt has begun, and answer where it has not."""
    rows = [{"messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": str(n)}]}
            for n in range(3)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    (tmp_path / "plain.jinja").write_text(TEMPLATE.replace("enable_thinking", "false"))
    given = [
        "eval",
        "--model",
        str(tiny_model),
        "--data",
        "rows.jsonl",
        "--suites",
        "reference",
        "perplexity",
        "generation",
    ]
    found = {}
    for thinking in ("on", "off"):
        options = ["--chat-template", "own.jinja", "--thinking", thinking, "--output", thinking]
        options += ["--max-thought-tokens", "40", "--max-new-tokens", "20"]
        done = recipe(*given, *options)
        found[thinking] = json.loads((tmp_path / thinking / "results.json").read_text())
        if thinking == "on":
            assert "3 failed: unfinished_thought: no end within 40 tokens (eval.max_thought_tokens" in done.stderr
    on, off = (found[name]["metrics"] for name in ("on", "off"))
    assert on["reference.rougeL"]["n"] == 0 and on["reference.rougeL"]["failures"] == 3
    assert off["reference.rougeL"]["n"] == 3 and off["reference.rougeL"]["failures"] == 0
    assert off["generation.tokens"]["value"] == 20, "an answer has its own room, and no more"
    assert on["test_loss"] == off["test_loss"], "rows are read as they are trained on"
    suites = found["on"]["provenance"]["suites"]
    assert suites["reference"]["settings"]["thinking"] == "on" and "thinking" not in suites["perplexity"]["settings"]
    done = recipe(*given, "--chat-template", "plain.jinja", "--thinking", "on", code=2)
    assert "thinking: on: the chat template knows no enable_thinking; use auto" in done.stderr
