"""Going on from any point, for real: from an earlier checkpoint, from another run, past the end of the schedule."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.real.conftest import Recipe, inside, losses, metrics, steps

pytestmark = pytest.mark.real

# 22 rows are trained and 2 held out: three steps an epoch.
QUICK = ["data.train[0].max_samples=24", "eval.loss_every=2", "checkpoint.every=2", "checkpoint.keep=null"]
LORA = "tuning={type: lora, rank: 4, dropout: 0.1}"


def trains(name: str, model: Path, *overrides: str) -> list[str]:
    given = [f"model.path={model}", *QUICK, *overrides]
    return ["run", name, "--no-eval", *(part for text in given for part in ("--set", text))]


def weights(run: Path) -> bytes:
    return (run / "model/adapter_model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["llamafactory", "verl"])
def test_from_an_earlier_checkpoint_it_ends_as_it_did(
    backend: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    """Losses, validation losses and weights, bit for bit, with dropout; the first end is kept beside."""
    recipe(*trains("quickstart", tiny_model, f"backend={backend}", LORA, "training.max_steps=8"), "--name", "one")
    run = tmp_path / "runs/one"
    before, ended, checkpoints = metrics(run), weights(run), sorted(p.name for p in (run / "checkpoints").iterdir())
    assert "whole ones: 2, 4, 6, 8" in recipe("resume", "one", "--from", "5", code=2).stderr
    assert "nothing is left to train" in recipe("resume", "one", "--from", "8", code=2).stderr
    assert metrics(run) == before
    said = recipe("resume", "one", "--from", "4", "--no-eval").stderr
    assert "resuming from step 4" in said and "the metrics of 4 steps" in said
    found = json.loads((run / "run.json").read_text())
    assert found["state"] == "succeeded" and found["attempts"][-1]["resume_from"] == 4
    assert steps(run) == list(range(1, 9)) and weights(run) == ended
    timed = ("step_time_s", "tokens_per_s", "supervised_tokens_per_s", "memory_gb")
    assert [{k: v for k, v in line.items() if k not in timed} for line in metrics(run)] == [
        {k: v for k, v in line.items() if k not in timed} for line in before
    ]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == checkpoints
    aside = run / "aside-1"
    assert weights(aside) == ended and len(losses(aside)) == 8
    assert sorted(
        int(p.name.rpartition("-" if backend == "llamafactory" else "_")[2]) for p in (aside / "checkpoints").iterdir()
    ) == [6, 8]


def content(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in (".lock", ".heartbeat")
    }


@pytest.mark.slow
def test_a_resume_names_what_changed_and_asks(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is touched before one agrees; what changes nothing needs no agreement, and changes nothing."""
    recipe(*trains("quickstart", tiny_model, LORA, "training.max_steps=4"), "--name", "one")
    run, back = tmp_path / "runs/one", ["resume", "one", "--from", "2", "--no-eval"]
    before, ended = content(run), weights(run)
    held = recipe(*back, "--set", "training.learning_rate=7e-3", "--accept", code=2).stderr
    assert "training.learning_rate: " in held and "recipe run RECIPE --from one" in held
    asked = recipe(*back, "--set", "training.scheduler=linear", code=2).stderr
    assert "training.scheduler: 'cosine' before, 'linear' now" in asked and "--accept" in asked
    with monkeypatch.context() as patch:
        patch.setenv("NPROC_PER_NODE", "2")
        assert "processes: 1 before, 2 now" in recipe(*back, code=2).stderr
    rows, manifest = run / "data/train.jsonl", json.loads((run / "run.json").read_text())
    rows.write_bytes(before["data/train.jsonl"] + b"{}\n")
    (run / "run.json").write_text(json.dumps(manifest | {"versions": manifest["versions"] | {"torch": "0.1"}}))
    told = recipe(*back, code=2).stderr
    assert "data/train.jsonl: sha256" in told and "torch: 0.1 before, " in told
    rows.write_bytes(before["data/train.jsonl"])
    (run / "run.json").write_bytes(before["run.json"])
    assert content(run) == before
    assert "eval.max_samples" in recipe(*back, "--set", "eval.max_samples=7").stderr
    assert weights(run) == ended
    assert "accepted: training.scheduler" in recipe(*back, "--set", "training.scheduler=linear", "--accept").stderr
    assert weights(run) != ended and steps(run) == [1, 2, 3, 4]
    assert "scheduler: linear" in (run / "recipe.resolved.yaml").read_text()
    recipe(*back)  # what was accepted is the run's own from then on


@pytest.mark.slow
def test_the_same_command_begins_a_run_goes_on_with_it_and_only_scores_it(
    recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    """What a scheduler repeats: whatever was there, one finished run is left, and no other."""
    command = [*trains("quickstart", tiny_model, LORA, "training.max_steps=4"), "--name", "again", "--resume"]
    run = tmp_path / "runs/again"
    (run / "launch").mkdir(parents=True)
    recipe(*command)
    ended = weights(run)
    recipe(*command)
    assert weights(run) == ended and len(json.loads((run / "run.json").read_text())["attempts"]) == 1
    recipe("resume", "again", "--from", "2", "--no-eval")
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(manifest | {"state": "interrupted", "trained_steps": None}))
    told = recipe(*command)
    assert weights(run) == ended and steps(run) == [1, 2, 3, 4] and told.stdout.splitlines() == [str(run)]
    scored = [word for word in command if word != "--no-eval"]
    recipe(*scored)
    assert (run / "eval/results.json").is_file() and [one.name for one in run.parent.glob("*/run.json")] == ["run.json"]


@pytest.mark.slow
def test_several_cpu_processes_go_on(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    recipe(*trains("quickstart", tiny_model, LORA, "training.max_steps=4"), "--name", "two")
    ended = losses(tmp_path / "runs/two")
    recipe("resume", "two", "--from", "2", "--no-eval")
    assert losses(tmp_path / "runs/two") == pytest.approx(ended, abs=1e-6)


def parent(run: Path) -> dict[str, str | int]:
    found: dict[str, str | int] = json.loads((run / "run.json").read_text())["parent"]
    return found


# The mean loss of the supervised tokens of a batch of rows, by transformers and PEFT alone.
LOSS = """
import json, sys, torch
from datasets import load_from_disk
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, rows = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()
total = count = 0
for row in load_from_disk(rows)["train"]:
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    with torch.no_grad():
        logits = model(ids).logits.float()
    total += torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum").item()
    count += (labels[0, 1:] != -100).sum().item()
print(json.dumps(total / count))
"""


@pytest.mark.slow
def test_an_sft_goes_on_as_a_dpo_whose_reference_it_is(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """Policy and reference are equal at the first step, to the last digit: its loss is ln 2, its margins are 0.

    Were the reference the base without the adapter, as LLaMA-Factory has it by itself, neither would hold.
    """
    strong = ["training.max_steps=4", "training.learning_rate=2e-2", "tuning={type: lora, rank: 16}"]
    recipe(*trains("quickstart", tiny_model, *strong), "--name", "sft")
    asked = trains("finance_dpo", tmp_path / "another", "training.max_steps=2")
    recipe("plan", "finance_dpo", "--from", "sft", "--set", "data.train[0].max_samples=24")
    done = recipe(*asked, "--from", "sft", "--name", "dpo")
    run, sft = tmp_path / "runs/dpo", tmp_path / "runs/sft"
    first, *_, last = [line for line in metrics(run) if "loss" in line]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6) and first["rewards/margins"] == pytest.approx(
        0, abs=1e-6
    )
    assert last["loss"] != first["loss"]
    assert weights(run) != weights(sft)
    found = parent(run)
    assert (found["run"], found["step"], found["kind"]) == (str(sft), 4, "adapter")
    adapter = json.loads((run / "model/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(tiny_model) and adapter["r"] == 16
    assert json.loads((run / "run.json").read_text())["model"] == str(tiny_model)
    assert "weights: adapter of sft at step 4" in done.stderr
    assert (
        "tuning.rank: 4 here, and 16 in model.adapter_path"
        in recipe(*asked, "--set", "tuning.rank=4", "--from", "sft", code=2).stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["llamafactory", "verl"])
def test_an_adapter_is_trained_further_from_any_step(
    backend: str, recipe: Recipe, tiny_model: Path, tmp_path: Path, llamafactory_python: Path
) -> None:
    """The second run's first loss, of all its rows at once, is that of base and adapter by transformers and PEFT."""
    batch = [
        "data.validation.fraction=0",
        "eval.loss_every=null",
        "eval.suites=[]",
        "training.global_batch_size=24",
        "data.max_length=1024",
        f"backend={backend}",
    ]
    start = [*batch, "tuning={type: lora, rank: 4, dropout: 0}", "training.max_steps=4", "training.learning_rate=2e-2"]
    recipe(*trains("quickstart", tiny_model, *start), "--name", "one")
    again = trains(
        "quickstart", tiny_model, *batch, "tuning={type: lora}", "training.max_steps=1", "training.warmup_ratio=0"
    )
    recipe(*again, "--from", "one:2", "--name", "two")
    recipe(*again, "--from", "one", "--name", "three")
    one, two, three = (tmp_path / "runs" / name for name in ("one", "two", "three"))
    seen = []
    for run in (two, three):
        adapter, rows = str(parent(run)["path"]), str(run / "data/tokenized")
        expected = json.loads(
            inside(llamafactory_python, LOSS, str(tiny_model), adapter, rows, cwd=run).splitlines()[-1]
        )
        assert losses(run)[0] == pytest.approx(expected, abs=2e-5)
        seen.append(expected)
    assert abs(seen[0] - seen[1]) > 1e-3 and [parent(run)["step"] for run in (two, three)] == [2, 4]
    assert "stands on" not in recipe("rm", "one", "--checkpoints", "--yes").stderr
    assert not list((one / "checkpoints").glob("*-*")) or backend == "verl"


@pytest.mark.slow
def test_an_adapter_is_merged_where_the_next_run_trains_all_weights(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, llamafactory_python: Path
) -> None:
    batch = [
        "data.validation.fraction=0",
        "eval.loss_every=null",
        "eval.suites=[]",
        "training.global_batch_size=24",
        "data.max_length=1024",
    ]
    start = [*batch, "tuning={type: lora, rank: 4, dropout: 0}", "training.max_steps=2", "training.learning_rate=2e-2"]
    recipe(*trains("quickstart", tiny_model, *start), "--name", "one")
    full = trains("quickstart", tiny_model, *batch, "tuning={type: full}", "training.max_steps=1")
    assert "is not merged into its base yet" in recipe(*full, "--dry-run", "--from", "one", code=2).stderr
    recipe(*full, "--from", "one", "--name", "two")
    lora = trains("quickstart", tiny_model, *batch, "tuning={type: lora, rank: 8}", "training.max_steps=1")
    recipe(*lora, "--from", "two", "--name", "three")
    one, two, three = (tmp_path / "runs" / name for name in ("one", "two", "three"))
    for run, base, adapter in ((two, str(tiny_model), str(one / "model")), (three, str(two / "model"), "")):
        rows = str(run / "data/tokenized")
        expected = json.loads(inside(llamafactory_python, LOSS, base, adapter, rows, cwd=run).splitlines()[-1])
        assert losses(run)[0] == pytest.approx(expected, abs=2e-5)
    assert [parent(run)["kind"] for run in (two, three)] == ["merged", "model"]
    assert "the model of three stands on its files" in recipe("rm", "two", "--yes", code=2).stderr
    assert "the model of three stands on its files" in recipe("resume", "two", "--from", "1", code=2).stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["llamafactory", "verl"])
def test_more_epochs_of_a_constant_rate_are_as_if_they_had_been_asked_for(
    backend: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    """Bit for bit, with dropout; a validation draws random numbers, so both have one where the shorter ends."""
    given = [f"backend={backend}", LORA, "training.warmup_ratio=0", "training.max_steps=null", "eval.loss_every=3"]
    constant = trains("quickstart", tiny_model, *given, "training.scheduler=constant")
    recipe(*constant, "--set", "training.epochs=2", "--name", "long")
    recipe(*constant, "--set", "training.epochs=1", "--name", "short")
    long, short = tmp_path / "runs/long", tmp_path / "runs/short"
    one = weights(short)
    told = recipe("resume", "short", "--more-epochs", "1", "--dry-run").stderr
    assert "6 steps in place of 3" in told and weights(short) == one
    recipe("resume", "short", "--more-epochs", "1", "--no-eval")
    assert losses(short) == losses(long) and weights(short) == weights(long) != one
    assert weights(short / "aside-1") == one and steps(short) == [1, 2, 3, 4, 5, 6]
    assert "epochs: 2" in (short / "recipe.resolved.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["llamafactory", "verl"])
def test_more_epochs_of_a_cosine_follow_the_longer_one(
    backend: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    given = [
        f"backend={backend}",
        LORA,
        "training.warmup_ratio=0",
        "training.learning_rate=1e-3",
        "training.scheduler=cosine",
    ]
    recipe(*trains("quickstart", tiny_model, *given, "training.max_steps=3"), "--name", "one")
    told = recipe("resume", "one", "--more-epochs", "1", "--no-eval").stderr
    rates = [line["learning_rate"] for line in metrics(tmp_path / "runs/one") if "loss" in line]
    wanted = [
        1e-3 * (1 + math.cos(math.pi * step / total)) / 2
        for total, step in [(3, 0), (3, 1), (3, 2), (6, 3), (6, 4), (6, 5)]
    ]
    assert rates == pytest.approx(wanted, rel=1e-6)
    assert "cosine over all 6 steps: 5.00e-04 at step 4, 2 times that of step 3" in told
