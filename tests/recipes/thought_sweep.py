"""Conversations with thinking, made at random, by templates of five kinds: ids, mask, notes and tokens of thought.

The reference is written from the formats, turn by turn, not from the templates under tests/thought_templates.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recipes import mask
from recipes.encode import BadRow, Encoded
from runner.data.formats import convert
from runner.data.spec import source_of
from tests.recipes.families import Family, Segment
from tests.recipes.sweep import ToyTokenizer, _shown, encoder_of, reference

TEMPLATES = Path(__file__).parents[1] / "thought_templates"
WORDS = ("two", "and two", "is", "4.", "so\n\nit", "中文", "<b>", "it's", "[INST]", "think", "{x}")
BESIDE = ("reasoning_content", "reasoning", "thinking")
Turns = list[dict[str, str]]


def qwen3(turns: Turns) -> Iterator[Segment]:
    for n, turn in enumerate(turns):
        yield f"<|im_start|>{turn['role']}\n", False
        if turn["role"] != "assistant":
            yield f"{turn['content']}<|im_end|>\n", False
            continue
        thought = f"<think>\n{turn.get('thought', '')}\n</think>\n\n" if n == len(turns) - 1 else ""
        yield f"{thought}{turn['content']}<|im_end|>\n", True


def glm(turns: Turns) -> Iterator[Segment]:
    yield "[gMASK]<sop>", False
    for n, turn in enumerate(turns):
        if turn["role"] != "assistant":
            head = "" if turn["role"] == "user" and n and turns[n - 1]["role"] == "assistant" else f"<|{turn['role']}|>"
            yield f"{head}\n{turn['content']}", False
            continue
        last = n == len(turns) - 1
        yield "<|assistant|>", False
        yield f"\n<think>{turn.get('thought', '') if last else ''}</think>\n{turn['content']}", True
        if not (last and "weight" in turn):
            yield "<|user|>", True  # the next turn's first token, at which generation stops


def deepseek(turns: Turns) -> Iterator[Segment]:
    yield "<s>", False
    for n, turn in enumerate(turns):
        if turn["role"] == "system":
            yield turn["content"], False
        elif turn["role"] == "user":
            yield f"<｜User｜>{turn['content']}", False
        elif n == len(turns) - 1:
            yield "<｜Assistant｜><think>\n", False  # which the generation prompt gives
            yield f"{turn.get('thought', '')}\n</think>\n\n{turn['content']}<eos>", True
        else:
            yield "<｜Assistant｜>", False
            yield f"{turn['content']}<eos>", True


def gpt_oss(turns: Turns) -> Iterator[Segment]:
    for n, turn in enumerate(turns):
        if turn["role"] != "assistant":
            yield f"<|start|>{turn['role']}<|message|>{turn['content']}<|end|>", False
            continue
        last = n == len(turns) - 1
        yield "<|start|>assistant", False
        if last and "thought" in turn:
            yield f"<|channel|>analysis<|message|>{turn['thought']}<|end|><|start|>assistant", True
        yield f"<|channel|>final<|message|>{turn['content']}{'<|return|>' if last else '<|end|>'}", True


def magistral(turns: Turns) -> Iterator[Segment]:
    """The thinking of every reply stays."""
    yield "<s>", False
    names = {"system": "SYSTEM_PROMPT", "user": "INST"}
    for turn in turns:
        if turn["role"] != "assistant":
            yield f"[{names[turn['role']]}]{turn['content']}[/{names[turn['role']]}]", False
            continue
        thought = f"[THINK]{turn['thought']}[/THINK]" if "thought" in turn else ""
        yield f"{thought}{turn['content']}</s>", True


Reference = Callable[[Turns], Iterator[Segment]]
IM = Family(user="", stops=("<|im_end|>",), specials=("<|im_start|>",))
OSS = Family(user="", stops=("<|return|>", "<|end|>"), specials=("<|start|>", "<|channel|>", "<|message|>"))
GLM = Family(user="", stops=("<|user|>",), specials=("[gMASK]", "<sop>", "<|assistant|>", "<|system|>"))
# Whether the thinking of earlier replies stays; whether the template knows a block inside of the content.
FAMILIES: dict[str, tuple[Reference, Family, bool, bool]] = {
    "qwen3": (qwen3, IM, False, True),
    "glm4.5": (glm, GLM, False, True),
    "deepseek": (deepseek, Family(user="", stops=("<eos>",), bos="<s>", specials=("<｜User｜>",)), False, True),
    "gpt_oss": (gpt_oss, OSS, False, False),
    "magistral": (magistral, Family(user="", stops=("</s>",), bos="<s>"), True, False),
}


def conversation(chance: random.Random) -> Turns:
    """Turns whose replies may have a thought and may have no loss."""

    def said() -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(1, 5)))

    turns = [{"role": "system", "content": said()}] if chance.random() < 0.5 else []
    for _ in range(chance.randint(1, 3)):
        turns += [{"role": "user", "content": said()}, {"role": "assistant", "content": said()}]
        if chance.random() < 0.7:
            turns[-1]["thought"] = said()
        if chance.random() < 0.2:
            turns[-1]["weight"] = "0"
    return turns


def raw(turns: Turns, chance: random.Random, block: bool) -> dict[str, Any]:
    """The same as people have it: the thought under one of three names, or as a block before the text."""
    messages = []
    for turn in turns:
        given: dict[str, Any] = {key: value for key, value in turn.items() if key != "thought"}
        if "thought" in turn:
            name = chance.choice((*BESIDE, *["block"] * block))
            if name == "block":
                given["content"] = f"<think>{turn['thought']}</think>{turn['content']}"
            else:
                given[name] = turn["thought"]
        messages.append(given)
    return {"messages": messages}


def differences(count: int) -> Iterator[str]:
    """What differs, a line each, over so many conversations of each family."""
    for name, (made, family, stays, block) in FAMILIES.items():
        tokenizer = ToyTokenizer((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"), family)
        encoder = encoder_of(tokenizer, family)
        for seed in range(count):
            chance = random.Random(f"{name} {seed}")
            turns = conversation(chance)
            row = convert(raw(turns, chance, block), "messages", source_of("r")).row["messages"]
            found = encoder.encode([row], last_only=False)[0]
            yield from (f"{name} {seed}: {text}" for text in _compare(tokenizer, made(turns), turns, found, stays))


def _compare(
    tokenizer: ToyTokenizer, segments: Iterator[Segment], turns: Turns, found: Encoded | BadRow, stays: bool
) -> Iterator[str]:
    if isinstance(found, BadRow):
        yield str(found)
        return
    replies = [turn for turn in turns if turn["role"] == "assistant"]
    weights = iter(["weight" not in turn for turn in replies])
    weighed: list[Segment] = []
    weight, before = False, False
    for text, loss in segments:
        weight = loss and (weight if before else next(weights))
        weighed.append((text, weight))
        before = loss
    ids, labels = reference(tokenizer, weighed)
    if (found.ids, found.labels) != (ids, labels):
        yield f"got {_shown(tokenizer, found.ids, found.labels)}, expected {_shown(tokenizer, ids, labels)}"
    written = replies if stays else replies[-1:]
    thoughts = [turn["thought"] for turn in written if "thought" in turn and "weight" not in turn]
    if found.thought != sum(len(tokenizer.split(thought)[0]) for thought in thoughts):
        yield f"{found.thought} tokens of thought, expected {thoughts}"
    lost = not stays and any("thought" in turn for turn in replies[:-1])
    notes = {note for note in found.notes if "control tokens" not in note and note != mask.NO_STOP}
    if notes != ({mask.NO_EARLIER_THINKING} if lost else set()):
        yield f"notes {notes}, expected {lost}"


if __name__ == "__main__":
    for line in differences(200):
        print(line)
