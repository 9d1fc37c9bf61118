# ruff: noqa: E501 (one turn a line)
"""Conversations with tool calls, made at random, by templates of seven kinds: ids and mask against a reference.

The reference is written from the formats, turn by turn, not from the templates under tests/tool_templates.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recipes.encode import BadRow, Encoded
from runner.data.formats import convert
from runner.data.spec import source_of
from tests.recipes.families import Family, Segment
from tests.recipes.sweep import ToyTokenizer, _shown, encoder_of, reference

TEMPLATES = Path(__file__).parents[1] / "tool_templates"
WORDS = ("price", "of the", "bond", 'say "so"', "línea\ntwo", "中文", "{brace}", "it's", "<b>", "back\\slash")
Turns = list[dict[str, Any]]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _system(messages: Turns) -> tuple[str, Turns]:
    return (messages[0]["content"], messages[1:]) if messages[0]["role"] == "system" else ("", messages)


def _merged_results(messages: Turns, n: int) -> tuple[bool, bool]:
    """Whether a result is the first, and the last, of those in a row."""
    return messages[n - 1]["role"] != "tool", n + 1 == len(messages) or messages[n + 1]["role"] != "tool"


def qwen(messages: Turns, tools: Turns) -> Iterator[Segment]:
    system, rest = _system(messages)
    if tools:
        shown = "".join(f"\n{_json(tool)}" for tool in tools)
        yield (
            f"<|im_start|>system\n{system + chr(10) * 2 if system else ''}# Tools\n<tools>{shown}\n</tools><|im_end|>\n",
            False,
        )
    elif system:
        yield f"<|im_start|>system\n{system}<|im_end|>\n", False
    for n, turn in enumerate(rest):
        if turn["role"] == "user":
            yield f"<|im_start|>user\n{turn['content']}<|im_end|>\n", False
        elif turn["role"] == "tool":
            first, last = _merged_results(rest, n)
            yield (
                f"{'<|im_start|>user' * first}\n<tool_response>\n{turn['content']}\n</tool_response>"
                f"{('<|im_end|>' + chr(10)) * last}",
                False,
            )
        else:
            calls = [
                f'<tool_call>\n{{"name": "{c["function"]["name"]}", "arguments": {_json(c["function"]["arguments"])}}}\n</tool_call>'
                for c in turn.get("tool_calls", [])
            ]
            yield "<|im_start|>assistant\n", False
            yield "\n".join(filter(None, [turn["content"], *calls])) + "<|im_end|>\n", True


def llama(messages: Turns, tools: Turns) -> Iterator[Segment]:
    system, rest = _system(messages)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    yield f"<s>{head('system')}{system}<|eot_id|>", False
    for n, turn in enumerate(rest):
        if turn["role"] == "user":
            shown = "".join(f"{json.dumps(tool, indent=4, ensure_ascii=False)}\n\n" for tool in tools)
            yield (
                f"{head('user')}{f'Functions:{chr(10)}{shown}' if tools and n == 0 else ''}{turn['content']}<|eot_id|>",
                False,
            )
        elif turn["role"] == "tool":
            yield f"{head('ipython')}{turn['content']}<|eot_id|>", False
        else:
            yield head("assistant"), False
            text = turn["content"]
            for call in turn.get("tool_calls", []):
                text = f'{{"name": "{call["function"]["name"]}", "parameters": {_json(call["function"]["arguments"])}}}'
            yield f"{text}<|eot_id|>", True


def mistral(messages: Turns, tools: Turns) -> Iterator[Segment]:
    system, rest = _system(messages)
    yield "<s>", False
    asked = [n for n, turn in enumerate(rest) if turn["role"] == "user"]
    for n, turn in enumerate(rest):
        if turn["role"] == "user":
            shown = f"[AVAILABLE_TOOLS] {_json(tools)}[/AVAILABLE_TOOLS]" if tools and n == asked[-1] else ""
            yield (
                f"{shown}[INST] {f'{system}{chr(10) * 2}' if system and n == 0 else ''}{turn['content']}[/INST]",
                False,
            )
        elif turn["role"] == "tool":
            yield (
                f'[TOOL_RESULTS] {{"content": {_json(turn["content"])}, "call_id": "{turn["tool_call_id"]}"}}[/TOOL_RESULTS]',
                False,
            )
        elif turn.get("tool_calls"):
            calls = [_json({**c["function"], "id": c["id"]}) for c in turn["tool_calls"]]
            yield f"[TOOL_CALLS] [{', '.join(calls)}]</s>", True
        else:
            yield f" {turn['content']}</s>", True


def deepseek(messages: Turns, tools: Turns) -> Iterator[Segment]:
    system, rest = _system(messages)
    shown = "".join(f"{t['function']['name']}: {t['function']['description']}\n" for t in tools)
    yield f"<s>{system}{f'{chr(10)}## Tools{chr(10)}{shown}' if tools else ''}", False
    for turn in rest:
        if turn["role"] == "user":
            yield f"<User>{turn['content']}", False
        elif turn["role"] == "tool":
            yield f"<output>{turn['content']}</output>", False
        else:
            yield "<Assistant>", False
            calls = [
                f"<call>function<sep>{c['function']['name']}\n```json\n{_json(c['function']['arguments'])}\n```</call>"
                for c in turn.get("tool_calls", [])
            ]
            yield turn["content"] + (f"<calls>{''.join(calls)}</calls>" if calls else "") + "<eos>", True


def coder(messages: Turns, tools: Turns) -> Iterator[Segment]:
    system, rest = _system(messages)
    shown = "".join(f"<function>\n<name>{t['function']['name']}</name>\n</function>" for t in tools)
    if tools or system:
        yield f"<|im_start|>system\n{system}{chr(10) * bool(tools and system)}{shown}<|im_end|>\n", False
    for n, turn in enumerate(rest):
        if turn["role"] == "user":
            yield f"<|im_start|>user\n{turn['content']}<|im_end|>\n", False
        elif turn["role"] == "tool":
            first, last = _merged_results(rest, n)
            yield (
                f"{('<|im_start|>user' + chr(10)) * first}<tool_response>\n{turn['content']}\n</tool_response>\n"
                f"{('<|im_end|>' + chr(10)) * last}",
                False,
            )
        else:
            text = f"\n{turn['content']}" if turn["content"] else ""
            text += "\n" if turn.get("tool_calls") else ""
            for call in turn.get("tool_calls", []):
                given = "".join(
                    f"<parameter={name}>\n{value if isinstance(value, str) else _json(value)}\n</parameter>\n"
                    for name, value in call["function"]["arguments"].items()
                )
                text += f"\n<tool_call>\n<function={call['function']['name']}>\n{given}</function>\n</tool_call>"
            yield "<|im_start|>assistant\n", False
            yield text.removeprefix("\n") + "<|im_end|>\n", True


def gpt_oss(messages: Turns, tools: Turns) -> Iterator[Segment]:
    system, rest = _system(messages)
    shown = "".join(f"\ntype {t['function']['name']} = (_: any) => any;" for t in tools)
    yield f"<|start|>system<|message|>{system}{shown}<|end|>", False
    name = ""
    for n, turn in enumerate(rest):
        if turn["role"] == "user":
            yield f"<|start|>user<|message|>{turn['content']}<|end|>", False
        elif turn["role"] == "tool":
            yield (
                f"<|start|>functions.{name} to=assistant<|channel|>commentary<|message|>{_json(turn['content'])}<|end|>",
                False,
            )
        else:
            yield "<|start|>assistant", False
            if turn.get("tool_calls"):
                (call,) = turn["tool_calls"]
                name = call["function"]["name"]
                thought = (
                    f"<|channel|>analysis<|message|>{turn['content']}<|end|><|start|>assistant"
                    if turn["content"]
                    else ""
                )
                arguments = _json(call["function"]["arguments"])
                yield f"{thought} to=functions.{name}<|channel|>commentary json<|message|>{arguments}<|call|>", True
            else:
                yield f"<|channel|>final<|message|>{turn['content']}", True
                yield ("<|return|>", True) if n == len(rest) - 1 else ("<|end|>", True)


Reference = Callable[[Turns, Turns], Iterator[Segment]]
IM = Family(user="", stops=("<|im_end|>",), specials=("<|im_start|>",))
FAMILIES: dict[str, tuple[Reference, Family, bool, bool]] = {  # several calls at once; text beside a call
    "qwen": (qwen, IM, True, True),
    "coder": (coder, IM, True, True),
    "llama": (llama, Family(user="", stops=("<|eot_id|>",), bos="<s>"), False, False),
    "mistral": (mistral, Family(user="", stops=("</s>",), bos="<s>", specials=("[INST]", "[/INST]")), True, False),
    "deepseek": (deepseek, Family(user="", stops=("<eos>",), bos="<s>"), True, True),
    "gpt_oss": (gpt_oss, Family(user="", stops=("<|return|>", "<|call|>", "<|end|>"), specials=("<|start|>",)), False, True),
}  # fmt: skip


def conversation(chance: random.Random, several: bool, beside: bool) -> tuple[Turns, Turns]:
    """Turns in canonical form, and the tools."""

    def said() -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(1, 4)))

    def arguments() -> dict[str, Any]:
        values = (said(), chance.randint(-3, 99), 2.5, True, [said(), 1], {"deep": said()})
        return {f"key{n}": chance.choice(values) for n in range(chance.randint(0, 3))}

    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": said(), "parameters": {"type": "object"}}}
        for n in range(chance.randint(0, 3))
    ]
    turns: Turns = [{"role": "system", "content": said()}] if chance.random() < 0.5 else []
    number = 0
    for _ in range(chance.randint(1, 3)):
        turns.append({"role": "user", "content": said()})
        for _ in range(chance.randint(0, 2)):
            calls = []
            for _ in range(chance.randint(1, 3) if several else 1):
                number += 1
                calls.append({"id": f"abcd{number:05d}", "type": "function",
                              "function": {"name": f"tool_{chance.randint(0, 5)}", "arguments": arguments()}})  # fmt: skip
            text = said() if beside and chance.random() < 0.5 else ""
            turns.append({"role": "assistant", "content": text, "tool_calls": calls})
            turns += [
                {"role": "tool", "content": said() if chance.random() < 0.9 else "", "tool_call_id": c["id"],
                 "name": c["function"]["name"]}
                for c in calls
            ]  # fmt: skip
        turns.append({"role": "assistant", "content": said()})
        if chance.random() < 0.2:
            turns[-1]["weight"] = 0
    return turns, tools


def raw(turns: Turns, tools: Turns, chance: random.Random) -> dict[str, Any]:
    """The same as people have it: arguments as text or objects, content null, tools as text or a list."""
    messages = []
    for turn in turns:
        given = dict(turn)
        if "tool_calls" in given:
            given["content"] = given["content"] or None
            given["tool_calls"] = [
                {**c, "function": {**c["function"], "arguments": _json(c["function"]["arguments"])}}
                if chance.random() < 0.5
                else c
                for c in given["tool_calls"]
            ]
        messages.append(given)
    return {"messages": messages, "tools": _json(tools) if chance.random() < 0.5 else tools or None}


def between_tags(turns: Turns, tools: Turns, chance: random.Random) -> dict[str, Any]:
    """The same as Hermes's rows have it: calls and results in the texts, several results in a turn or in several."""
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": chance.choice(("tool", "human"))}
    if not tools:
        names["tool"] = "tool"
    messages: Turns = []
    for n, turn in enumerate(turns):
        text = turn["content"]
        for call in turn.get("tool_calls", ()):
            given = {"arguments": call["function"]["arguments"], "name": call["function"]["name"]}
            text += f"{chr(10) * bool(text)}<tool_call>\n{chance.choice((_json, repr))(given)}\n</tool_call>"
        if turn["role"] == "tool":
            text = f"<tool_response>\n{text}\n</tool_response>\n"
            if turns[n - 1]["role"] == "tool" and chance.random() < 0.5:
                messages[-1]["value"] += text
                continue
        weight = {"weight": turn["weight"]} if "weight" in turn else {}
        messages.append({"from": names[turn["role"]], "value": text, **weight})
    return {"conversations": messages, "tools": _json(tools) if tools else None}


def numbered(turns: Turns) -> Turns:
    """The turns with the ids that calls get which have none."""
    return json.loads(json.dumps(turns).replace('"abcd0', '"call0'))  # type: ignore[no-any-return]


def differences(count: int) -> Iterator[str]:
    """What differs, a line each, over so many conversations of each family."""
    for name, (made, family, several, beside) in FAMILIES.items():
        tokenizer = ToyTokenizer((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"), family)
        encoder = encoder_of(tokenizer, family)
        for seed in range(count):
            chance = random.Random(f"{name} {seed}")
            turns, tools = conversation(chance, several, beside)
            if chance.random() < 0.3:
                turns = numbered(turns)
                row = convert(between_tags(turns, tools, chance), "conversations", source_of("r")).row["messages"]
            else:
                row = convert(raw(turns, tools, chance), "messages", source_of("r")).row["messages"]
            found = encoder.encode([row], last_only=False)[0]
            weights = iter([turn.get("weight", 1) for turn in turns if turn["role"] == "assistant"])
            yield from (f"{name} {seed}: {text}" for text in _compare(tokenizer, made(turns, tools), weights, found))


def _compare(
    tokenizer: ToyTokenizer, segments: Iterator[Segment], weights: Iterator[int], found: Encoded | BadRow
) -> Iterator[str]:
    if isinstance(found, BadRow):
        yield str(found)
        return
    weighed: list[Segment] = []
    weight, before = 0, False
    for text, loss in segments:
        weight = (weight if before else next(weights)) if loss else 0
        weighed.append((text, bool(weight)))
        before = loss
    ids, labels = reference(tokenizer, weighed)
    if (found.ids, found.labels) != (ids, labels):
        yield f"got {_shown(tokenizer, found.ids, found.labels)}, expected {_shown(tokenizer, ids, labels)}"
    if wrong := [note for note in found.notes if "control tokens" not in note]:
        yield f"notes {wrong}"
