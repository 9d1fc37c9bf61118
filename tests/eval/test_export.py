"""What an export refuses, and which rows it looks at; the quantization itself is in tests/real/test_export.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.models.export import group_size, refuse_experts, rows_hash, unpacked
from eval.models.schemes import GROUPS, SCHEMES
from recipes.errors import UserError
from runner.data.packs import _pack

LAYERS = st.dictionaries(st.text("abc.", min_size=1), st.integers(1, 40).map(lambda n: n * 16), min_size=1)


@given(LAYERS, st.sampled_from(["gptq", "awq"]))
def test_the_group_size_is_the_largest_that_divides_every_layer(inputs: dict[str, int], scheme: str) -> None:
    fitting = [size for size in GROUPS if not any(number % size for number in inputs.values())]
    if fitting:
        assert group_size(scheme, inputs) == max(fitting)
        return
    with pytest.raises(UserError, match="a multiple of no group size") as error:
        group_size(scheme, inputs)
    name = str(error.value).partition(" has ")[0]
    assert f"{name} has {inputs[name]} inputs" in str(error.value) and all(inputs[name] % size for size in GROUPS)


@given(LAYERS, st.sampled_from([name for name, one in SCHEMES.items() if not one.grouped]))
def test_a_scale_a_channel_takes_any_layer(inputs: dict[str, int], scheme: str) -> None:
    assert group_size(scheme, inputs) is None


def test_experts_in_one_tensor_are_refused_and_convolutions_are_not() -> None:
    refuse_experts({"model.layers.0.conv1d.weight": (64, 1, 4), "model.layers.0.mlp.experts.3.up_proj.weight": (8, 8)})
    with pytest.raises(UserError, match=r"mlp\.experts\.gate_up_proj holds 60 experts in one tensor"):
        refuse_experts({"model.layers.0.mlp.experts.gate_up_proj": (60, 8, 8)})


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(0, 8))
def test_a_pack_is_taken_apart_into_its_rows(rows: list[list[int]], room: int) -> None:
    pack: dict[str, Any] = _pack([(ids, ids) for ids in rows], sum(map(len, rows)) + room)
    assert list(unpacked(pack["input_ids"], pack["attention_mask"])) == rows


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4), st.lists(st.lists(st.integers(0, 3))))
def test_the_hash_of_rows_knows_where_each_ends(one: list[list[int]], other: list[list[int]]) -> None:
    assert (rows_hash(one) == rows_hash(other)) == (one == other)
