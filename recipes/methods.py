"""The training methods: what their rows are, which fields they take, their defaults. Everything else asks here.

A new method is a line in METHODS and its name in the schema's enum (a test holds the two equal); which backend has it,
each adapter says itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a method's rows are.

    formats: the data formats that become such rows.
    columns: prefixes of the tokenized columns, one for each conversation of a row; empty where rows stay text.
    reply: whether a row holds a reply that a model can find likely.
    pair: whether it holds a chosen and a rejected one.
    chat: whether it is a conversation, rendered by a chat template; else plain text.
    """

    formats: tuple[str, ...]
    columns: tuple[str, ...]
    reply: bool = True
    pair: bool = False
    chat: bool = True


CONVERSATIONS = Rows(formats=("alpaca", "prompt_response", "messages", "conversations", "longbench"), columns=("",))
DOCUMENTS = Rows(formats=("text",), columns=("",), chat=False)
PAIRS = Rows(formats=("preference", "ranked"), columns=("chosen_", "rejected_"), pair=True)
FEEDBACK = Rows(formats=("feedback", "preference", "ranked"), columns=("", "kl_"))
PACKED = (CONVERSATIONS, DOCUMENTS)  # whose rows `data.packing` puts together
PROMPTS = Rows(formats=("prompts",), columns=(), reply=False)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One training method.

    learning_rate: the default peak learning rate of LoRA and of full training.
    preference: the leaves of the recipe's `preference` section that it takes; `beta` is that leaf's default.
    rewards: whether it learns from `grpo.rewards`, and takes the section `grpo`.
    scores: whether it makes a reward model, which scores replies by a head of its own and writes none.
    """

    name: str
    rows: Rows
    learning_rate: Mapping[str, float]
    preference: tuple[str, ...] = ()
    beta: float = 0.1
    rewards: bool = False
    scores: bool = False


METHODS = {
    method.name: method
    for method in (
        Method(name="pretrain", rows=DOCUMENTS, learning_rate={"lora": 1e-4, "full": 1e-5}),
        Method(name="sft", rows=CONVERSATIONS, learning_rate={"lora": 2e-4, "full": 2e-5}),
        Method(
            name="dpo",
            rows=PAIRS,
            learning_rate={"lora": 5e-5, "full": 1e-6},
            preference=("beta", "loss", "label_smoothing", "sft_weight"),
        ),
        Method(name="orpo", rows=PAIRS, learning_rate={"lora": 8e-6, "full": 8e-6}, preference=("beta",)),
        Method(
            name="simpo",
            rows=PAIRS,
            learning_rate={"lora": 1e-5, "full": 1e-6},
            preference=("beta", "gamma", "sft_weight"),
            beta=2.0,
        ),
        Method(
            name="kto",
            rows=FEEDBACK,
            learning_rate={"lora": 5e-5, "full": 1e-6},
            preference=("beta", "sft_weight", "chosen_weight", "rejected_weight"),
        ),
        Method(name="reward", rows=PAIRS, learning_rate={"lora": 1e-4, "full": 1e-5}, scores=True),
        Method(name="grpo", rows=PROMPTS, learning_rate={"lora": 5e-5, "full": 1e-6}, rewards=True),
    )
}


def methods_with(leaf: str) -> str:
    """The methods that take a leaf of `preference`, or the section itself for an empty name, in words."""
    return in_words([m.name for m in METHODS.values() if (leaf in m.preference if leaf else m.preference)])


def in_words(names: list[str]) -> str:
    """`dpo, orpo and kto`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def refused_sections(method: str) -> dict[tuple[str, ...], str]:
    """The fields of a recipe that its method has no use for, each with the reason."""
    one = METHODS[method]
    found: dict[tuple[str, ...], str] = {}
    if not one.preference:
        found["preference",] = f"belongs to {methods_with('')}; take it out or change method"
    for leaf in dict.fromkeys(leaf for m in METHODS.values() for leaf in m.preference if one.preference):
        if leaf not in one.preference:
            found["preference", leaf] = f"belongs to {methods_with(leaf)}; take it out or change method"
    if not one.rows.chat:
        for leaf in ("overlong", "train_on", "on_note", "irregular", "test_prompts"):
            found["data", leaf] = f"{method} cuts its documents into blocks of data.max_length; take it out"
        found["model", "chat_template_kwargs"] = f"{method} renders no chat template; take it out"
    if not one.rewards:
        names = in_words([m.name for m in METHODS.values() if m.rewards])
        found["grpo",] = f"belongs to method: {names}; take it out or change method"
    return found
