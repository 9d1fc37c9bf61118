"""The transformers engine with families whose layers, masks and caches differ: equal to one request at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real

# Scores beside the model's own logits, and greedy replies beside transformers' generate, of one request at a time;
# requests of unequal lengths that begin alike, in one batch. Windows are shorter than what is shared.
FAMILIES = """
import json, sys, torch
from eval.engines.requests import Generate, Score
from eval.engines.transformers_engine import TransformersEngine
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
linear = dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8)
mamba = dict(mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8)
given = {
    "qwen3_5_text": linear, "lfm2": dict(layer_types=["conv", "full_attention"] * 2),
    "bamba": {**mamba, "attn_layer_indices": [1, 3]}, "falcon_h1": {**mamba, "mamba_d_ssm": 64}, "bloom": {},
    "gemma3_text": dict(sliding_window=16), "opt": dict(ffn_dim=64, word_embed_proj_dim=32),
    "gpt_oss": dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=16), "mamba": dict(state_size=8),
}
found = {}
for name, more in given.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**dict(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=2, bos_token_id=1, eos_token_id=2), **more}),
        dtype=torch.float32)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, 0.02 if weight.dim() > 1 else 1.0, 0.15)
    engine = TransformersEngine(model.eval(), tokenizer, 100_000, 4096)
    chance = torch.Generator().manual_seed(1)
    def drawn(count):
        return torch.randint(10, len(tokenizer), (count,), generator=chance).tolist()
    primer, questions = drawn(24), [drawn(n) for n in (3, 18, 30)]
    scored = [primer + q + a for q in questions for a in (drawn(2), drawn(9), drawn(4))]
    cuts = [len(primer) + len(questions[n // 3]) for n in range(9)]
    def scores(shared):
        rows = [Score(ids=ids, labels=[-100] * cut + ids[cut:], shared=(len(primer), cut) if shared else ())
                for ids, cut in zip(scored, cuts)]
        answers = {n: one["nll"] for batch in engine.score(rows) for n, one in batch}
        return [answers[n] for n in range(9)]
    def own(ids, cut):
        likely = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return -sum(float(likely[n - 1, ids[n]]) for n in range(cut, len(ids)))
    right = [own(ids, cut) for ids, cut in zip(scored, cuts)]
    ways = [scores(False), scores(True)]
    engine.can_pack = False
    ways.append(scores(True))
    gap = max(abs(a / b - 1) for way in ways for a, b in zip(way, right))
    prompts = [Generate(ids=primer + q, max_new_tokens=m, shared=(len(primer),)) for q, m in zip(questions, (12, 5, 9))]
    try:
        texts = {n: one["text"] for batch in engine.generate(prompts) for n, one in batch}
        def generated(one):
            out = model.generate(torch.tensor([one.ids]), attention_mask=torch.ones(1, len(one.ids), dtype=torch.long),
                                 max_new_tokens=one.max_new_tokens, do_sample=False)
            return tokenizer.decode(out[0, len(one.ids):], skip_special_tokens=True)
        said = [texts[n] == generated(one) for n, one in enumerate(prompts)]
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    found[name] = [gap, said]
print(json.dumps(found))
"""


def test_every_family_answers_as_one_request_at_a_time(eval_python: Path, bundled_model: Path, tmp_path: Path) -> None:
    found = json.loads(inside(eval_python, FAMILIES, str(bundled_model), cwd=tmp_path).splitlines()[-1])
    print(found)
    assert {name for name, (gap, _) in found.items() if gap > 1e-5} == set()
    assert found.pop("mamba")[1].startswith("UserError: MambaForCausalLM keeps no keys and values")
    assert {name: said for name, (_, said) in found.items() if said != [True] * 3} == {}
