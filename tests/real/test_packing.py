"""Packing changes nothing but the speed: the loss of each row, and of whole trainings, on both backends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes import load
from recipes.typed import read_typed
from runner.data.spec import Accounting
from runner.runs import rundir as rundir
from runner.runs.rundir import Run
from runner.training.prepare import prepare
from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Prepared, Recipe, inside, losses

pytestmark = pytest.mark.real

GIVEN = {
    "data.train[0].max_samples": 12, "data.validation": "{}", "data.max_length": 320, "eval": "{}",
    "checkpoint.every": "null", "tuning": "{type: full}", "training.weight_decay": 0.1,
}  # fmt: skip
# Each row's loss in its pack beside its loss alone; and with what the pack says of its rows left out.
ROWS = {
    "llamafactory": """
import json, sys, torch
from datasets import load_from_disk
from llamafactory.data.collator import prepare_4d_attention_mask
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation=sys.argv[3]).eval()
def logits(pack, apart):
    ids, mask = (torch.tensor([pack[key]]) for key in ("input_ids", "attention_mask"))
    given = prepare_4d_attention_mask(mask, torch.float32) if apart else (mask > 0).long()
    positions = torch.tensor([pack["position_ids"]]) if apart else None
    return model(ids, attention_mask=given, position_ids=positions).logits[0]
""",
    "verl": """
import json, sys, torch
from datasets import load_from_disk
from transformers import AutoModelForCausalLM
from adapters.verl.rows import TokenizedRows
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation=sys.argv[3]).eval()
def logits(pack, apart):
    there = sum(number > 0 for number in pack["attention_mask"])
    ids, positions = (torch.tensor([pack[key][:there]]) for key in ("input_ids", "position_ids"))
    # As verl's engine calls a model without padding: one row of all tokens, no mask, positions that begin anew.
    positions = positions if apart else torch.arange(there)[None]
    return model(ids, attention_mask=None, position_ids=positions, use_cache=False).logits[0]
""",
}
COMPARE = """
def nll(logits, labels):
    labels = torch.tensor(labels)
    found = torch.nn.functional.cross_entropy(logits[:-1].double(), labels[1:], ignore_index=-100, reduction="sum")
    return float(found) / int((labels[1:] >= 0).sum())
apart, together, count = 0.0, 0.0, 0
with torch.inference_mode():
    for pack in load_from_disk(sys.argv[2])["train"]:
        packed, plain = logits(pack, True), logits(pack, False)
        for number in range(1, max(pack["attention_mask"]) + 1):
            own = [n for n, mask in enumerate(pack["attention_mask"]) if mask == number]
            cut = slice(own[0], own[-1] + 1)
            ids, labels = pack["input_ids"][cut], pack["labels"][cut]
            alone = nll(model(torch.tensor([ids])).logits[0], labels)
            apart = max(apart, abs(nll(packed[cut], labels) - alone))
            together = max(together, abs(nll(plain[cut], labels) - alone))
            count += 1
print(json.dumps([count, apart, together]))
"""


def packed(tmp_path: Path, model: Path, python: Path, template: str = "") -> tuple[Path, Accounting]:
    """The rows of the quickstart, packed."""
    fields = {**GIVEN, "model.path": model, "data.packing": True}
    overrides = [f"{name}={value}" for name, value in fields.items()]
    loaded = load("quickstart", [*overrides, *([f"model.chat_template={template}"] if template else [])])
    run = rundir.create(loaded, tmp_path / "prepared", template or "own")
    prepare(run, loaded.recipe, python, str(model), print)
    return run.path / "data/tokenized", read_typed(Accounting, run.accounting)


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_each_row_has_the_loss_that_it_has_alone(
    backend: str, request: pytest.FixtureRequest, llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    python = request.getfixturevalue(f"{backend}_python")
    for template, attention in (("", "sdpa"), ("chatml", "eager"), ("alpaca", "sdpa"), ("vicuna", "sdpa")):
        data, accounting = packed(tmp_path, tiny_model, llamafactory_python, template)
        found = inside(python, ROWS[backend] + COMPARE, str(tiny_model), str(data), attention, cwd=tmp_path)
        count, apart, together = json.loads(found.splitlines()[-1])
        print(f"{backend} {template or 'own'} {attention}: {count} rows in {accounting.sequences} packs, {apart:.1e}")
        assert count == accounting.trained == 12 > accounting.sequences > 1
        assert apart < 1e-5 and together > 1e-3  # rows that see each other would be noticed


DOCUMENTS = """
backend: llamafactory
method: pretrain
model: {{path: {model}}}
data: {{train: [{{path: {rows}}}], max_length: 32, packing: true}}
training: {{epochs: 1, global_batch_size: 1, micro_batch_size: 1}}
"""
TEXTS = [f"{n} " + "all rates of the bank are told " * (3 * n % 10) + "here" for n in range(9)]
PIECES = """
import json, sys
from datasets import load_from_disk
from transformers import AutoTokenizer
tokenizer, texts = AutoTokenizer.from_pretrained(sys.argv[1]), json.loads(sys.argv[3])
documents = [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]
wanted = [ids[start : start + 32] for ids in documents for start in range(0, len(ids), 32)]
found = []
for pack in load_from_disk(sys.argv[2])["train"]:
    for number in range(1, max(pack["attention_mask"]) + 1):
        own = [n for n, mask in enumerate(pack["attention_mask"]) if mask == number]
        found.append([pack["input_ids"][n] for n in own])
        assert [pack["labels"][n] for n in own] == [-100, *found[-1][1:]]
        assert [pack["position_ids"][n] for n in own] == list(range(len(own)))
assert max(map(len, wanted)) == 32 and any(len(ids) > 32 for ids in documents)
print(json.dumps([len(found), sorted(found) == sorted(wanted)]))
"""


def test_documents_are_packed_whole_and_the_long_ones_in_pieces(
    prepared: Prepared, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "r.yaml").write_text(DOCUMENTS.format(model=tiny_model, rows=tmp_path / "rows.jsonl"))
    run, said = prepared("r.yaml")
    data = str(run / "data/tokenized")
    found = inside(llamafactory_python, PIECES, str(tiny_model), data, json.dumps(TEXTS), cwd=tmp_path)
    pieces, whole = json.loads(found.splitlines()[-1])
    assert whole and pieces > len(TEXTS)
    compared = inside(llamafactory_python, ROWS["llamafactory"] + COMPARE, str(tiny_model), data, "sdpa", cwd=tmp_path)
    count, apart, together = json.loads(compared.splitlines()[-1])
    assert count == pieces and apart < 1e-5 and together > 1e-3
    accounting = read_typed(Accounting, run / "data/accounting.json")
    assert accounting.trained == len(TEXTS) and f"{accounting.sequences} sequences of 32 tokens" in said


# Packs of generated rows under our attention, beside each row alone under transformers' eager one, gradients too.
ALONE = """
import copy, random, torch
from adapters.packed import Attention, by_number, by_place
from transformers import AutoConfig, AutoModelForCausalLM
worst = 0.0
for seed in range(12):
    chance = random.Random(seed)
    config = AutoConfig.for_model(
        chance.choice(["llama", "mistral", "qwen3"]), vocab_size=97, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    config.sliding_window = chance.choice([None, 4]) if config.model_type == "mistral" else None
    torch.manual_seed(seed)
    eager = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double()
    packed = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="sdpa").double()
    packed.load_state_dict(eager.state_dict())
    # As LLaMA-Factory tells the rows apart, and as verl does, where PEFT calls the model's forward.
    named = chance.choice(["attention_mask", "position_ids"])
    read = {"attention_mask": by_number, "position_ids": by_place}[named]
    called = packed if named == "attention_mask" else packed.base_model
    attention = Attention(lambda given: read(given.pop(named) if called is packed else given[named]))
    assert attention.use(packed.get_decoder(), called)
    packs = [[chance.randint(1, 12) for _ in range(chance.randint(1, 5))] for _ in range(chance.randint(1, 3))]
    length = max(map(sum, packs)) + chance.randint(0, 3)
    ids = torch.randint(97, (len(packs), length))
    rows, places, loss = torch.zeros_like(ids), torch.zeros_like(ids), 0.0
    weights = torch.randn(len(packs), length, 97, dtype=torch.float64)
    for pack, lengths in enumerate(packs):
        weights[pack, sum(lengths) :] = 0
    for pack, lengths in enumerate(packs):
        start = 0
        for number, count in enumerate(lengths, 1):
            cut = slice(start, start + count)
            rows[pack, cut], places[pack, cut] = number, torch.arange(count)
            loss = loss + (eager(ids[pack : pack + 1, cut]).logits[0] * weights[pack, cut]).sum()
            start += count
    loss.backward()
    told = {"attention_mask": rows if called is packed else None, "position_ids": places}
    ours = (packed.forward(ids, **told) if called is not packed else packed(ids, **told)).logits * weights
    ours = ours.sum()
    ours.backward()
    pairs = [(ours, loss), *((a.grad, b.grad) for a, b in zip(packed.parameters(), eager.parameters()))]
    worst = max(worst, *(float((a - b).norm() / (1e-9 + b.norm())) for a, b in pairs))
print(worst)
"""


def test_attention_of_packs_is_that_of_each_row_alone(llamafactory_python: Path, tmp_path: Path) -> None:
    found = inside(llamafactory_python, ALONE, cwd=tmp_path).splitlines()[-1]
    assert 0 < float(found) < 1e-5  # norms are computed in fp32


@pytest.mark.slow
def test_whole_trainings_are_the_same(
    recipe: Recipe, llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """One batch holds all rows, so that each step is over the same ones however they are put together."""
    _, accounting = packed(tmp_path, tiny_model, llamafactory_python)
    given = {**GIVEN, "model.path": tiny_model, "training.max_steps": 4}
    common = [part for field, value in given.items() for part in ("--set", f"{field}={value}")]
    whole = ["--set", "training.global_batch_size=12"]
    packs = ["--set", "data.packing=true"]
    packs += [f"--set=training.{name}_batch_size={accounting.sequences}" for name in ("global", "micro")]
    recipe("run", "quickstart", "--name", "alone", *common, *whole)
    done = recipe("run", "quickstart", "--name", "llamafactory", *common, *packs)
    assert f"{accounting.sequences} sequences of " in done.stderr and "% full, " in done.stderr
    recipe("run", "quickstart", "--name", "verl", "--set", "backend=verl", *common, *packs)
    assert "attention: each row by itself\n" in Run(tmp_path / "runs" / "verl").log(1).read_text()
    alone, *others = (losses(tmp_path / "runs" / name) for name in ("alone", "llamafactory", "verl"))
    gaps = [max(abs(a - b) for a, b in zip(alone, other, strict=True)) for other in others]
    print(f"{alone[0]:.6f} -> {alone[-1]:.6f}, largest differences {gaps}")
    assert alone[-1] < alone[0] - 0.01 and max(gaps) < 2e-5


@pytest.mark.slow
def test_two_processes_train_the_same_packs_as_one(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {**GIVEN, "data.packing": True, "data.train[0].max_samples": 60, "model.path": tiny_model}
    fields |= {"training.max_steps": 3, "training.global_batch_size": 4, "training.micro_batch_size": 2}
    given = [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv("NPROC_PER_NODE", processes)
        recipe("run", "quickstart", "--name", processes, "--no-eval", *given)
        lines = Run(tmp_path / "runs" / processes).steps()
        found.append([(line["loss"], line["tokens"]) for line in lines if "loss" in line])
    for (alone, one), (together, two) in zip(*found, strict=True):
        assert together == pytest.approx(alone, rel=1e-6) and one == two > 0
