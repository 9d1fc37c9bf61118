"""Several prefixes and all their continuations in one forward pass: a mask of trees in place of a batch of rows.

A question of twenty tokens with ten answers of ten wastes a pass on its few tokens: reading the weights costs more than
computing with them. Packed, many such groups share one pass with no padding, and each prefix is still computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from eval.engines.requests import Score
from recipes.encode import IGNORE

PACK = 512  # tokens in a pass: enough to be worth the weights' reading, few enough for the dense mask


@dataclass(frozen=True)
class Group:
    """Requests (by index) that go on from the same tokens, behind what the cache holds."""

    prefix: tuple[int, ...]
    members: tuple[int, ...]


def group_by_prefix(prefixes: Mapping[int, Sequence[int]]) -> list[Group]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, prefix in prefixes.items():
        groups.setdefault(tuple(prefix), []).append(n)
    return [Group(prefix, tuple(members)) for prefix, members in groups.items()]


def size(group: Group, requests: Sequence[Score], past: int) -> int:
    start = past + len(group.prefix)
    return len(group.prefix) + sum(len(requests[n].ids) - start for n in group.members)


def packs(groups: Sequence[Group], requests: Sequence[Score], past: int) -> Iterator[list[Group]]:
    """Groups, each of at most PACK tokens, in passes of at most PACK tokens."""
    pack: list[Group] = []
    used = 0
    for group in groups:
        tokens = size(group, requests, past)
        if pack and used + tokens > PACK:
            yield pack
            pack, used = [], 0
        pack.append(group)
        used += tokens
    if pack:
        yield pack


@dataclass(frozen=True)
class Packed:
    """One row of tokens: ids, positions, targets (IGNORE where nothing is scored), each 1 × T; mask 1 × 1 × T × K."""

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    members: list[int]  # in the order in which their targets stand


def pack(groups: Sequence[Group], requests: Sequence[Score], past: int, dtype: torch.dtype) -> Packed:
    """Lay groups out behind `past` cached tokens."""
    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    tree: list[tuple[int, int]] = []  # of each token: its group, and its member or -1 in the prefix
    for g, group in enumerate(groups):
        start = past + len(group.prefix)
        ids += group.prefix
        positions += range(past, start)
        targets += [IGNORE] * len(group.prefix)
        tree += [(g, -1)] * len(group.prefix)
        for n in group.members:
            own = requests[n].ids[start:]
            ids += own
            positions += range(start, start + len(own))
            targets += [*requests[n].labels[start + 1 :], IGNORE]
            tree += [(g, n)] * len(own)
    return Packed(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        targets=torch.tensor([targets]),
        mask=_mask(tree, past, dtype),
        members=[n for group in groups for n in group.members],
    )


def _mask(tree: list[tuple[int, int]], past: int, dtype: torch.dtype) -> torch.Tensor:
    """0 where a token sees: the cache, its group's prefix, and itself; else the lowest number."""
    group, member = torch.tensor(tree).T
    sees = (group[:, None] == group) & ((member == -1) | (member[:, None] == member))
    sees = torch.cat([torch.ones(len(tree), past, dtype=torch.bool), sees.tril()], dim=1)
    return torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[None, None]
