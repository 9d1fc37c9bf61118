"""Marks what generation prompts have in common, so that an engine computes a transcript once for all its questions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from eval.engines.batching import common_prefix
from eval.engines.requests import Generate, Request


def share_prefixes(requests: Sequence[Request], groups: Sequence[Hashable]) -> list[Generate]:
    """The same requests, each with the length of the prefix that all of its group begin with."""
    members: dict[Hashable, list[int]] = {}
    for n, group in enumerate(groups):
        members.setdefault(group, []).append(n)
    generate = [request for request in requests if isinstance(request, Generate)]
    out = list(generate)
    for own in members.values():
        prefix = common_prefix([generate[n].ids for n in own]) if len(own) > 1 else 0
        for n in own:
            out[n] = replace(generate[n], shared=(prefix,) if prefix else ())
    return out
