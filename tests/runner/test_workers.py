"""Encoding on several processes: the same results in the same order, errors too, however many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import UserError
from runner.data import workers
from runner.data.row import BadData


def squares(numbers: Sequence[Any]) -> list[Any]:
    return [(number * number, os.getpid()) for number in numbers]


def chunks(sizes: list[int], broken_after: int | None = None) -> Iterator[tuple[int, list[int]]]:
    for place, size in enumerate(sizes):
        if place == broken_after:
            raise BadData("a.jsonl:7: torn")
        yield place, [place * 100 + n for n in range(size)]


def run(sizes: list[int], broken_after: int | None = None) -> tuple[list[tuple[int, list[int]]], set[int], str]:
    found, processes = [], set()
    try:
        for place, results in workers.encoded(chunks(sizes, broken_after), squares):
            found.append((place, [value for value, _ in results]))
            processes |= {pid for _, pid in results}
    except BadData as error:
        return found, processes, str(error)
    return found, processes, ""


@settings(max_examples=8, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), max_size=60),
    broken_after=st.one_of(st.none(), st.integers(0, 60)),
    count=st.sampled_from([1, 2, 3]),
)
def test_the_order_is_that_of_the_rows(sizes: list[int], broken_after: int | None, count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workers.WORKERS, str(count))
        found, _, error = run(sizes, broken_after)
    whole = broken_after is None or broken_after >= len(sizes)
    kept = sizes if whole else sizes[:broken_after]
    assert found == [(n, [(n * 100 + m) ** 2 for m in range(size)]) for n, size in enumerate(kept)]
    assert error == ("" if whole else "a.jsonl:7: torn"), "after all chunks before it"


def test_few_chunks_start_no_process_and_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.WORKERS, "2")
    assert run([3] * (workers.ENOUGH - 1))[1] == {os.getpid()}
    assert os.getpid() not in run([3] * 40)[1]
    monkeypatch.setenv(workers.WORKERS, "1")
    assert run([3] * 40)[1] == {os.getpid()}


def fails(numbers: Sequence[Any]) -> list[Any]:
    if 1001 in numbers:
        raise AssertionError("a bug of ours")
    return list(numbers)


def test_an_error_in_a_worker_is_the_error_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.WORKERS, "2")
    seen = []
    with pytest.raises(AssertionError, match="a bug of ours"):
        for place, _ in workers.encoded(chunks([5] * 30), fails):
            seen.append(place)
    assert seen == list(range(10))


def test_the_number_is_the_users_or_that_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.WORKERS, "5")
    assert workers.number() == 5
    monkeypatch.setenv(workers.WORKERS, "")
    assert 1 <= workers.number() <= workers.MOST
    for wrong in ("0", "many", "-1", "9999", "１"):
        monkeypatch.setenv(workers.WORKERS, wrong)
        with pytest.raises(UserError, match=f"RECIPE_WORKERS='{wrong}'; allowed: 1 to 999"):
            workers.number()
