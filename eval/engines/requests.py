"""What a suite asks an engine: token ids to score, to continue, or to value; one type each, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recipes.encode import IGNORE


@dataclass(frozen=True, kw_only=True)
class Score:
    """Asks for the negative log-likelihood of the labelled tokens.

    Args:
        ids: token ids of the whole sequence.
        labels: equally long; IGNORE where a token is given and not scored.
        shared: lengths of prefixes (ascending) that other requests of the suite begin with too.
    """

    ids: list[int]
    labels: list[int]
    shared: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(label != IGNORE for label in self.labels)

    @property
    def first_needed(self) -> int:
        """The position whose logits give the first scored token."""
        first = next(n for n, label in enumerate(self.labels) if label != IGNORE)
        return max(0, first - 1)

    def key(self) -> Mapping[str, Any]:
        """What determines the answer; `shared` is only a way to it."""
        return {"kind": "score", "ids": self.ids, "scored": [label != IGNORE for label in self.labels]}


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Asks for the greedy continuation.

    Args:
        ids: token ids of the prompt.
        max_new_tokens: the most tokens to make.
        max_thought_tokens: the most of a thought before the answer, which then has max_new_tokens to itself; 0: the
            thought is a part of them.
        stop: token ids that end it besides the model's own; where there are any, the first token is neither one of them
            nor one of the model's own, but the likeliest other (LongBench's samsum: `min_length` of transformers).
        shared: lengths of prefixes (ascending) that other requests of the suite begin with too.
    """

    ids: list[int]
    max_new_tokens: int
    stop: frozenset[int] = field(default_factory=frozenset)
    shared: tuple[int, ...] = ()
    max_thought_tokens: int = 0

    @property
    def most(self) -> int:
        """The most tokens that an engine makes: thought and answer."""
        return self.max_thought_tokens + self.max_new_tokens

    @property
    def ends(self) -> frozenset[int]:
        """The stop tokens that end it at once: where there may be a thought, they end the answer alone."""
        return frozenset() if self.max_thought_tokens else self.stop

    def key(self) -> Mapping[str, Any]:
        key = {"kind": "generate", "ids": self.ids, "max_new_tokens": self.max_new_tokens, "stop": sorted(self.stop)}
        thought = {"max_thought_tokens": self.max_thought_tokens} if self.max_thought_tokens else {}
        return key | ({"first": "no stop"} if self.stop else {}) | thought


@dataclass(frozen=True, kw_only=True)
class Value:
    """Asks a reward model for its score of a sequence: what its head says at the last token.

    Args:
        ids: token ids of the whole sequence.
        shared: as of the others; a sequence is read whole all the same.
    """

    ids: list[int]
    shared: tuple[int, ...] = ()

    def key(self) -> Mapping[str, Any]:
        return {"kind": "value", "ids": self.ids}


Request = Score | Generate | Value


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One thing asked of a model, by one or more requests of the same kind.

    `shown` goes into the record; `problem` says why it cannot be asked, and makes it a failure.
    """

    id: str
    requests: tuple[Request, ...] = ()
    shown: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
