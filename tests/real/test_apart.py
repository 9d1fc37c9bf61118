"""Rows one behind the other in a model that does not keep them apart: told before the training, or not put so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Recipe, inside, losses

pytestmark = pytest.mark.real

# Hybrids: some of their layers carry a state along the sequence, which Bamba's configuration says by numbers.
HYBRID = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
source, target, family = sys.argv[1:]
own = {
    "qwen3_5_text": dict(
        linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=16, linear_value_head_dim=16),
    "bamba": dict(mamba_n_heads=8, mamba_d_head=16, mamba_d_state=8, attn_layer_indices=[1, 3]),
}
tokenizer = AutoTokenizer.from_pretrained(source)
torch.manual_seed(1)
AutoModelForCausalLM.from_config(AutoConfig.for_model(
    family, **own[family], vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    pad_token_id=tokenizer.pad_token_id), dtype=torch.float32).save_pretrained(target)
tokenizer.save_pretrained(target)
"""
# Of families with random weights: whether they are said to keep rows apart, and how far a row's logits behind another
# are from those it has alone; as transformers has them, and with attention of ours.
FAMILIES = """
import json, torch
from adapters import apart, packed
from transformers import AutoConfig, AutoModelForCausalLM
window = dict(sliding_window=4)
linear = dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8)
experts = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
mamba = dict(mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, attn_layer_indices=[1, 3])
given = {
    "llama": {}, "qwen3": {}, "qwen3_moe": experts, "gemma3_text": window, "olmo3": window,
    "opt": dict(ffn_dim=64, word_embed_proj_dim=32), "bloom": {}, "qwen3_5_text": linear,
    "qwen3_next": {**linear, **experts, "shared_expert_intermediate_size": 16},
    "lfm2": dict(layer_types=["conv", "full_attention"] * 2), "bamba": mamba,
}
found = {}
for name, more in given.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        name, **{**dict(vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=4, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2), **more}),
        dtype=torch.float32)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, 0.02 if weight.dim() > 1 else 1.0, 0.1)
    def call(rows):
        ids = torch.tensor([[token for row in rows for token in row]])
        places = torch.tensor([[place for row in rows for place in range(len(row))]])
        return model(ids, attention_mask=None, position_ids=places, use_cache=False).logits[0]
    def gap():
        rows = [[9 + n % 50 for n in range(15)], [80 + n for n in range(7)]]
        model.eval()
        with torch.no_grad():
            behind, alone = call(rows)[15:], call(rows[1:])
        model.train()
        return float((behind - alone).norm() / alone.norm())
    far = gap()
    found[name] = [apart.keeps_apart(call, model), far]
    attention = packed.Attention(lambda given: packed.by_place(given["position_ids"]))
    decoder = model.get_decoder()
    if attention.use(decoder, decoder):
        far = gap()
        found[f"{name} ours"] = [apart.keeps_apart(call, model), far]
        attention.leave(decoder)
    assert model.training and all(part.training for part in model.modules())
print(json.dumps(found))
"""


@pytest.fixture
def hybrid(llamafactory_python: Path, bundled_model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    target = tmp_path / "hybrid"
    inside(llamafactory_python, HYBRID, str(bundled_model), str(target), request.param, cwd=tmp_path)
    return target


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_a_family_keeps_rows_apart_where_a_row_is_what_it_is_alone(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    python = request.getfixturevalue(f"{backend}_python")
    found = json.loads(inside(python, FAMILIES, cwd=tmp_path).splitlines()[-1])
    print({name: f"{said} {far:.0e}" for name, (said, far) in found.items()})
    assert {name: said for name, (said, _) in found.items()} == {name: far < 1e-5 for name, (_, far) in found.items()}
    mixed = {
        "opt",
        "bloom",
        *(f"{name}{way}" for name in ("qwen3_5_text", "qwen3_next", "lfm2", "bamba") for way in ("", " ours")),
    }
    assert {name for name, (said, _) in found.items() if not said} == mixed


def sets(**fields: object) -> list[str]:
    given = {"tuning": "{type: full}", "data.max_length": 320, "data.validation": "{}", "eval": "{}", **fields}
    return [part for name, value in given.items() for part in ("--set", f"{name}={value}")]


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
@pytest.mark.parametrize("hybrid", ["bamba"], indirect=True)
def test_a_hybrid_is_not_trained_on_packs(backend: str, recipe: Recipe, hybrid: Path) -> None:
    given = {"backend": backend, "model.path": hybrid, "data.packing": True, "data.train[0].max_samples": 20}
    said = recipe("run", "quickstart", *sets(**given), code=1).stderr
    assert "data.packing: bamba models do not keep rows in one sequence apart" in said


@pytest.mark.parametrize(
    ("name", "field"), [("quickstart", "data.packing"), ("grpo_sums", "distributed.remove_padding")]
)
@pytest.mark.parametrize("hybrid", ["qwen3_5_text"], indirect=True)
def test_one_that_says_so_is_refused_before_its_rows_are_read(
    recipe: Recipe, hybrid: Path, name: str, field: str
) -> None:
    said = recipe("run", name, "--set", f"model.path={hybrid}", "--set", f"{field}=true", code=2).stderr
    assert f"{field}: qwen3_5_text models do not keep rows" in said and "linear_attention" in said


@pytest.mark.slow
@pytest.mark.parametrize("hybrid", ["qwen3_5_text"], indirect=True)
def test_verl_fills_the_rows_of_a_hybrid_up(recipe: Recipe, hybrid: Path) -> None:
    # All rows are in each step: the backends have orders of their own.
    batch = "{max_steps: 3, global_batch_size: 16, micro_batch_size: 2, learning_rate: 1e-3}"
    given = {"model.path": hybrid, "data.train[0].max_samples": 16, "training": batch}
    runs = {
        backend: Path(recipe("run", "quickstart", *sets(backend=backend, **given)).stdout.splitlines()[-1])
        for backend in ("verl", "llamafactory")
    }
    assert "micro batches: of 2 rows, as qwen3_5_text models" in (runs["verl"] / "logs/attempt-1.log").read_text()
    assert losses(runs["verl"]) == pytest.approx(losses(runs["llamafactory"]), rel=1e-5)
