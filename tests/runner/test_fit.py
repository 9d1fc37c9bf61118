"""The estimate: shapes, memory, cards, work, and what is proposed where a recipe does not fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import backend
from adapters.contract import Topology
from benchmarks.memory import CLOSE, LENGTHS, MODELS, Case, Measured, difference, estimated, model
from recipes import Recipe, UserError, load, trainings
from recipes.typed import to_json
from runner.cli import main
from runner.data.spec import Accounting
from runner.fit.estimate import Fit, estimate
from runner.fit.gpus import GPUS, gpu
from runner.fit.memory import OPTIMIZERS, memory, trainable, weights
from runner.fit.models import TABLE, families, find
from runner.fit.setups import setup
from runner.fit.shapes import Shape, shape
from runner.fit.step import Lora, Setup
from runner.fit.work import Work, work
from runner.training.planning import check

ROWS = json.loads(TABLE.read_text(encoding="utf-8"))
QWEN = shape(families()["Qwen/Qwen3-8B"])
ONE = Topology(gpus=1, processes=1)
EIGHT = Topology(gpus=8, processes=8)
STEP = Setup(shape=QWEN, lora=Lora(rank=16), rows=2, length=2048, checkpointing=True)


@pytest.mark.parametrize("row", ROWS, ids=[row["names"][0] for row in ROWS])
def test_the_parameters_are_those_that_the_models_page_says(row: dict[str, object]) -> None:
    assert shape(row["config"]).parameters == row["parameters"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config,message",
    [
        ({}, "config.json: hidden_size: None is not allowed; allowed: a whole number, at least 1"),
        ({"hidden_size": "4096"}, "hidden_size: '4096' is not allowed"),
        ({"hidden_size": 64, "num_attention_heads": 0}, "num_attention_heads: 0 is not allowed"),
        ({"hidden_size": 64, "num_attention_heads": True}, "num_attention_heads: True is not allowed"),
    ],
)
def test_a_size_that_is_none_is_refused_by_its_name(config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        shape(config)


def test_a_model_that_sees_too_is_counted_by_its_text_part() -> None:
    own = families()["google/gemma-3-1b-pt"]
    assert shape({"model_type": "gemma3", "text_config": own, "vision_config": {}}) == shape(own)


def test_adamw_in_full_training_has_sixteen_bytes_a_parameter_and_four_in_its_step() -> None:
    """fp32 weight, gradient, two moments, and the square roots that torch computes for all at once."""
    step = memory(replace(STEP, lora=None, rows=1, length=8))
    assert step.phases["optimizer step"] == 20 * QWEN.parameters
    kept = ("weights", "gradients", "optimizer states")
    assert sum(step.parts.get(name, 0) for name in kept) == 16 * QWEN.parameters


def test_an_adapter_of_every_linear_layer_has_rank_times_inputs_and_outputs() -> None:
    hidden, wide, layer = 4096, 12288, 0
    for inputs, outputs in (
        (hidden, 4096), (hidden, 1024), (hidden, 1024), (4096, hidden), (hidden, wide), (hidden, wide), (wide, hidden)
    ):  # fmt: skip
        layer += 16 * (inputs + outputs)
    assert trainable(STEP) == 36 * layer
    two = replace(STEP, lora=Lora(rank=16, targets=frozenset({"q_proj", "v_proj"})))
    assert trainable(two) == 36 * 16 * ((hidden + 4096) + (hidden + 1024))


@given(
    rows=st.integers(1, 8),
    length=st.integers(64, 8192),
    full=st.booleans(),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    bits=st.sampled_from([4, 8, 16]),
)
def test_whatever_saves_memory_never_needs_more(rows: int, length: int, full: bool, optimizer: str, bits: int) -> None:
    lora = None if full else Lora(rank=8)
    one = replace(STEP, rows=rows, length=length, lora=lora, optimizer=optimizer, base=16 if full else bits)
    peak = memory(one).peak
    assert memory(replace(one, checkpointing=False)).peak >= peak
    assert memory(replace(one, length=length + 64)).peak >= peak
    assert memory(replace(one, rows=rows + 1)).peak >= peak
    assert memory(replace(one, attention="eager")).peak >= peak
    assert memory(replace(one, padded=True)).peak >= peak
    # With few tokens, the head's gradient that a fused loss keeps is more than the logits.
    assert full or memory(replace(one, loss="fused")).peak <= peak
    assert memory(replace(one, weights_over=8, states_over=8)).peak <= peak
    assert memory(replace(one, offload=frozenset({"states"}))).peak <= peak
    assert memory(replace(one, optimizer="adamw")).peak >= memory(replace(one, optimizer="adamw_8bit")).peak
    assert weights(replace(one, lora=Lora(rank=8), base=4)) <= weights(replace(one, lora=Lora(rank=8), base=8))
    assert sum(memory(one).parts.values()) == peak and min(memory(one).parts.values()) >= 0


@pytest.mark.parametrize("name", trainings())
@pytest.mark.parametrize("machines", [ONE, EIGHT], ids=["one", "eight"])
def test_every_recipe_of_the_catalogue_has_an_estimate_where_it_is_allowed(
    name: str, machines: Topology, tmp_path: Path
) -> None:
    loaded = load(name)
    for strategy in ("auto", *backend(loaded.recipe.backend).STRATEGIES):
        one = load(name, [f"distributed.strategy={strategy}"])
        try:
            check(one, machines)
        except UserError:
            continue
        found = estimate(one.recipe, machines, tmp_path)
        if strategy == "megatron":
            assert isinstance(found, str) and "megatron" in found
        else:
            assert isinstance(found, Fit) and found.memory.peak > 0 and found.parameters > found.trained / 2


def of(recipe: Recipe, machines: Topology) -> Setup:
    kept = backend(recipe.backend).keeping(recipe, machines)
    assert not isinstance(kept, str)
    return setup(recipe, machines, QWEN, kept)


SHARDED = [("ddp", 1), ("fsdp2", 8), ("deepspeed-zero2", 1), ("deepspeed-zero3", 8)]


@pytest.mark.parametrize("strategy,over", SHARDED)
def test_what_is_sharded_is_divided_by_the_processes(strategy: str, over: int) -> None:
    recipe = load("finance_full", [f"distributed.strategy={strategy}"]).recipe
    found = of(recipe, EIGHT)
    assert found.weights_over == over and found.states_over == (1 if strategy == "ddp" else 8)


def test_dpo_has_a_second_model_in_full_training_and_none_with_an_adapter() -> None:
    full = of(load("finance_dpo", ["tuning={type: full}"]).recipe, ONE)
    lora = of(load("finance_dpo").recipe, ONE)
    assert memory(full).parts["reference model"] == 2 * QWEN.parameters
    assert (
        "reference model" not in memory(lora).parts
        and lora.rows == 2 * load("finance_dpo").recipe.training.micro_batch_size
    )


@pytest.mark.parametrize(
    "text,memory", [("h100", 85.0), (" H100 ", 85.0), ("24GB", 24.0), ("16GiB", 17.179869184), ("80g", 80.0)]
)
def test_a_card_is_known_by_name_or_size(text: str, memory: float) -> None:
    assert gpu(text).memory == int(memory * 1e9)


@pytest.mark.parametrize(
    "text,hint",
    [
        ("h10", "did you mean 'h100'?"),
        ("a100", "did you mean"),
        ("0GB", "such as 24GB"),
        ("", "such as 24GB"),
        ("24", "such as 24GB"),
    ],
)
def test_a_card_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], text: str, hint: str) -> None:
    assert main(["fit", "quickstart", "--gpu", text]) == 2
    told = capsys.readouterr().err
    assert told.startswith("--gpu ") and hint in told


def test_a_model_is_found_in_its_directory_then_in_the_cache_then_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    named = find("Qwen/Qwen3-8B")
    assert not isinstance(named, str) and named.shape == QWEN and named.place == "the table of known models"
    cached = tmp_path / "hub/models--Qwen--Qwen3-8B"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("1" * 40)
    (cached / "snapshots" / ("1" * 40)).mkdir(parents=True)
    file = cached / "snapshots" / ("1" * 40) / "config.json"
    file.write_text(json.dumps(families()["Qwen/Qwen3-0.6B"]))
    newer = find("Qwen/Qwen3-8B")
    assert not isinstance(newer, str) and newer.shape.parameters == 596_049_920 and newer.place == str(file)
    local = find(str(file.parent))
    assert not isinstance(local, str) and local.shape == newer.shape
    assert find("acme/unknown", None) == (
        "no estimate: acme/unknown is neither in the Hugging Face cache nor in the table of known models; "
        "`hf download acme/unknown config.json` fetches what is needed"
    )
    assert find(str(tmp_path)) == f"no estimate: {tmp_path} holds no config.json"


@pytest.mark.parametrize("text", ["{", "[]", "\udcff", "[" * 100_000])
def test_a_config_that_is_none_is_refused_with_its_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=re.escape(f"{file}: ")):
        find(str(tmp_path))


ACCOUNTED = Accounting(
    rows_in=110, trained=100, truncated_of_trained=0, validation=10, truncated_of_validation=0, dropped={},
    longest_dropped=0, tokens=5_000, supervised_tokens=100, longest=90, max_length=2048, sources={}, files={},
    left_out={}, unused_columns={}, sha256={}, notes={}, model_notes=(), end_tokens=None, template_sha256="",
)  # fmt: skip


def counted(tmp_path: Path, accounting: Accounting | None, *overrides: str) -> Work:
    file = tmp_path / "accounting.json"
    if accounting:
        file.write_text(json.dumps(to_json(accounting)))
    base = ["training={global_batch_size: 16, micro_batch_size: 2, epochs: 2}", "data.packing=false", *overrides]
    return work(load("qwen3_4b_financial", base).recipe, file)


def test_tokens_and_steps_come_from_the_accounting_where_it_is_there(tmp_path: Path) -> None:
    found = counted(tmp_path, ACCOUNTED)
    assert (found.rows, found.steps, found.tokens, found.tokens_per_step) == (100, 14, 10_000, 800) and found.exact
    packed = replace(ACCOUNTED, sequences=5, sequence_length=1024, sequence_tokens=5_000)
    assert counted(tmp_path, packed).tokens == 2 * 5 * 1024
    assert counted(tmp_path, ACCOUNTED, "training.max_steps=3").tokens == 3 * 16 * 50


def test_without_it_they_are_a_bound_or_unknown(tmp_path: Path) -> None:
    assert counted(tmp_path, None).tokens is None
    found = counted(
        tmp_path, None, "data.train[0].max_samples=1000", "data.validation={fraction: 0.1}", "data.max_length=1000"
    )
    assert (found.rows, found.steps, found.tokens) == (900, 114, 1_800_000) and not found.exact
    assert counted(tmp_path, None, "data.train[0].max_samples=1000", "data.max_samples=500").rows == 450
    assert counted(tmp_path, None, "data.max_samples=500").rows == 450
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n' * 32 + "\n")
    source = f"data.train=[{{path: {rows}, format: alpaca}}]"
    assert counted(tmp_path, None, source, "data.validation={fraction: 0.25}").rows == 24


@pytest.mark.parametrize("text", ["{}", "{", "[]", ""])
def test_an_accounting_that_cannot_be_read_is_named_and_leaves_a_bound(tmp_path: Path, text: str) -> None:
    file = tmp_path / "accounting.json"
    file.write_text(text)
    found = counted(tmp_path, None, "training.max_steps=3")
    assert (found.steps, found.tokens) == (3, 3 * 16 * 4096) and not found.exact
    assert f"{file} cannot be read: " in found.source


def fit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["fit", *arguments])
    return code, capsys.readouterr().out


def test_what_is_proposed_fits_when_it_is_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each proposal is taken word by word, and the card is told to suffice; the first costs least."""
    for recipe, card in (("qwen3_4b_financial", "24GB"), ("finance_full", "16GB"), ("finance_dpo", "3GB")):
        big = [
            "--set",
            "model.path=Qwen/Qwen3-4B",
            "--set",
            "training.kernels=none",
            "--gpu",
            card,
            "--json",
            "--runs-dir",
            str(tmp_path),
        ]
        code, out = fit(capsys, recipe, *big)
        found = json.loads(out)
        assert code == 1 and found["fit"]["gpu"]["fits"] is False
        for change in found["changes"]:
            sets = [part for one in change["sets"] for part in ("--set", one)]
            code, out = fit(capsys, recipe, *big, *sets, "--gpus", str(change["gpus"]))
            own = json.loads(out)["fit"]
            assert code == 0 and own["gpu"]["fits"] and own["needed"] == change["peak"]
        if recipe == "qwen3_4b_financial":
            assert found["changes"][0]["sets"] == ["training.micro_batch_size=1"]


def test_a_step_before_a_larger_card_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = fit(capsys, "qwen3_4b_financial", "--gpu", "24GB")
    assert code == 0 and "yes, " in out  # with Liger's loss, which needs no logits
    code, out = fit(capsys, "qwen3_4b_financial", "--gpu", "24GB", "--set", "training.kernels=none")
    assert code == 1 and "what makes it fit" in out and "--set training.micro_batch_size=1  (" in out
    code, out = fit(capsys, "qwen3_4b_financial", "--gpu", "1GB")
    assert code == 1 and "nothing that was tried makes it fit" in out
    code, out = fit(capsys, "qwen3_4b_financial", "--set", "training.max_steps=100", "--gpu", "h100")
    assert code == 0 and "GPU-hours" in out and "0.5 to 2 times that" in out


def test_rollouts_take_their_share_beside_the_training(tmp_path: Path) -> None:
    def cards(share: float) -> list[str]:
        stays = "distributed={offload_parameters: false, offload_optimizer: false}"
        recipe = load("gsm8k_grpo", [f"grpo.rollouts.gpu_memory_utilization={share}", stays]).recipe
        found = estimate(recipe, ONE, tmp_path)
        assert isinstance(found, Fit)
        return found.cards

    assert "h100" in cards(0.6) and cards(0.99) == []


def test_a_plan_says_what_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N_GPUS", "1")
    assert main(["plan", "qwen3_4b_financial"]) == 0
    out = capsys.readouterr().out
    assert "\nmemory: " in out and "\nfits:      h200" in out
    assert main(["plan", "qwen3_4b_financial", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["fit"]["cards"]) <= GPUS.keys()
    assert main(["plan", "quickstart", "--set", "model.path=acme/unknown"]) == 0
    assert "\nfits:      no estimate: acme/unknown is neither" in capsys.readouterr().out


DOCUMENT = (Path(__file__).parents[2] / "docs/memory.md").read_text(encoding="utf-8")


def test_the_documented_table_is_that_of_this_formula_and_within_ten_percent() -> None:
    table = DOCUMENT.split("<!-- memory table")[1].split("<!-- end")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(MODELS) * 2 * 2 * len(LENGTHS)
    for name, tuning, again, length, *sizes in rows:
        case = Case(config=model(name), tuning=tuning, checkpointing=again == "on", length=int(length))
        guess = estimated(case)
        passes, tracked_passes, step, tracked_step = map(float, sizes)
        assert [f"{n / 1e9:.3f}" for n in (guess.passes, guess.step)] == [f"{passes:.3f}", f"{step:.3f}"]
        found = Measured(parameters=0, trained=0, passes=int(tracked_passes * 1e9), step=int(tracked_step * 1e9))
        assert difference(case, guess, found) < CLOSE


def test_the_documented_cards_are_those_of_the_table() -> None:
    for card in GPUS.values():
        assert card.flops
        assert f"| {card.name} | {card.memory / 1e9:g} | {card.flops / 1e12:g} | {card.share:.0%} |" in DOCUMENT


def test_native_keys_that_are_not_counted_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = fit(capsys, "quickstart", "--set", "backend_options={use_galore: true}")
    assert code == 0 and "not counted: backend_options use_galore" in out


@pytest.mark.parametrize("config", ['{"model_type": "mamba", "hidden_size": 64}', "[]", "no JSON", ""])
def test_what_is_not_known_of_a_model_stops_nothing(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(config)
    for verb in ("plan", "fit"):
        assert main([verb, "quickstart", "--set", f"model.path={tmp_path}"]) == 0
        assert f"no estimate: {tmp_path / 'config.json'}: " in capsys.readouterr().out


def test_an_unknown_family_is_counted_as_a_llama_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(dict(families()["Qwen/Qwen2.5-0.5B"]) | {"model_type": "odd"}))
    code, out = fit(capsys, "quickstart", "--set", f"model.path={tmp_path}")
    assert code == 0 and "the layers of odd are counted as a llama's" in out
    assert isinstance(QWEN, Shape)


@pytest.mark.parametrize("key", ["n_routed_experts", "moe_num_experts", "num_shared_experts"])
def test_a_mixture_of_another_kind_has_no_estimate(key: str) -> None:
    config = families()["Qwen/Qwen3-8B"]
    with pytest.raises(UserError, match=f"{key}: a mixture of experts of a kind that is not counted"):
        shape({**config, key: 256})


def test_a_model_that_ties_by_default_has_one_matrix_for_both_ends() -> None:
    config = {key: value for key, value in families()["Qwen/Qwen3-8B"].items() if key != "tie_word_embeddings"}
    apart = shape({**config, "model_type": "llama"}).parameters
    assert apart - shape({**config, "model_type": "gemma2"}).parameters == QWEN.vocabulary * QWEN.hidden


def test_target_modules_are_told_by_the_end_of_their_names() -> None:
    def fit(*names: str) -> Fit | str:
        loaded = load("qwen3_4b_financial", [f"tuning.target_modules=[{', '.join(names)}]"])
        return estimate(loaded.recipe, ONE, Path("runs"))

    by_end, plain = fit("self_attn.q_proj"), fit("q_proj")
    assert isinstance(by_end, Fit) and isinstance(plain, Fit) and by_end.trained == plain.trained > 0
    assert fit("foo") == "no estimate: tuning.target_modules foo: none of them is a layer that is counted here"


def test_a_micro_batch_beyond_all_reason_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [part for name in ("micro", "global") for part in ("--set", f"training.{name}_batch_size={10**20}")]
    main(["fit", "qwen3_4b_financial", "--gpu", "h100", *sets])
    assert "fits:      no" in capsys.readouterr().out


@pytest.mark.parametrize("backend_name,times", [("llamafactory", 2), ("verl", 1)])
def test_a_frozen_base_stays_in_fp32_where_llamafactory_finds_it_so(
    tmp_path: Path, backend_name: str, times: int
) -> None:
    found = []
    for dtype in ("bfloat16", "float32"):
        config = {**families()["Qwen/Qwen3-8B"], "dtype": dtype}
        (tmp_path / "config.json").write_text(json.dumps(config))
        given = [f"model.path={tmp_path}", f"backend={backend_name}", "training.precision=bf16", "tuning.quantization="]
        fit = estimate(load("qwen3_4b_financial", given).recipe, ONE, Path("runs"))
        assert isinstance(fit, Fit)
        found.append(fit.memory.parts["weights"])
    assert found[1] / found[0] == pytest.approx(times, rel=0.05)
