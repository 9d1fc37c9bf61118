"""The LLaMA-Factory adapter: what it writes, what it refuses, what it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters import llamafactory
from adapters.contract import Checkpoint, PreparedData, Topology
from recipes import load, load_text
from tests.adapters.fixed import fixed_paths

BASE = "backend: llamafactory\nmethod: {method}\nmodel: {{path: a/b}}\ndata: {{train: [{{path: a/b}}]}}\n"
GPUS = Topology(gpus=4, processes=4, devices=tuple("0123"))


def config(*overrides: str, method: str = "sft", topology: Topology = GPUS, resume: Checkpoint | None = None) -> Any:
    loaded = load_text(BASE.format(method=method).encode(), Path("r.yaml"), overrides)
    assert llamafactory.problems(loaded, topology) == []
    plan = llamafactory.plan(loaded.recipe, topology, PreparedData(), fixed_paths(loaded), resume=resume)
    return yaml.safe_load(plan.files["backend/train.yaml"])


def problems(*overrides: str, method: str = "sft", topology: Topology = GPUS) -> list[str]:
    loaded = load_text(BASE.format(method=method).encode(), Path("r.yaml"), overrides)
    return [f"{p.field}: {p.text}" for p in llamafactory.problems(loaded, topology)]


@pytest.mark.parametrize(
    "method,stage,loss",
    [("sft", "sft", None), ("dpo", "dpo", "sigmoid"), ("orpo", "dpo", "orpo"), ("kto", "kto", None)],
)
def test_a_method_is_a_stage(method: str, stage: str, loss: str | None) -> None:
    written = config(method=method)
    assert (written["stage"], written.get("pref_loss")) == (stage, loss)


def test_numbers_are_numbers_in_the_yaml() -> None:
    """PyYAML reads 1e-5 as text, which LLaMA-Factory takes for a number only when it is too late."""
    written = config("training.learning_rate=1e-5")
    assert written["learning_rate"] == 1e-5 and isinstance(written["learning_rate"], float)


def test_what_an_optimizer_takes_is_written() -> None:
    written = config("training={betas: [0.8, 0.95], optimizer_options: {eps: 1e-6}}")
    assert (written["adam_beta1"], written["adam_beta2"], written["adam_epsilon"]) == (0.8, 0.95, 1e-6)
    assert "adam_epsilon" not in config("training.optimizer=adafactor")


def test_training_is_asked_for() -> None:
    """Without do_train LLaMA-Factory ends with exit code 0 and trains nothing."""
    assert config()["do_train"] is True


@pytest.mark.parametrize("bits,expected", [("4bit", 4), ("8bit", 8), ("null", None)])
def test_quantization(bits: str, expected: int | None) -> None:
    written = config(f"tuning.quantization={bits}")
    assert written.get("quantization_bit") == expected
    assert ("double_quantization" in written) == (expected == 4)


@pytest.mark.parametrize(
    "topology,asked,keys",
    [
        (Topology(), "auto", {"infer_dtype": "float32", "use_cpu": True}),
        (GPUS, "auto", {"bf16": True}),
        (GPUS, "fp16", {"fp16": True}),
        (GPUS, "fp32", {"infer_dtype": "float32"}),
        (Topology(), "bf16", {"bf16": True, "use_cpu": True}),
    ],
)
def test_precision_follows_the_device_unless_it_is_given(topology: Topology, asked: str, keys: dict[str, Any]) -> None:
    written = config(f"training.precision={asked}", topology=topology)
    assert {k: written[k] for k in written if k in ("bf16", "fp16", "infer_dtype", "use_cpu")} == keys


def test_only_one_warmup_is_written() -> None:
    """warmup_ratio beats warmup_steps in LLaMA-Factory when both stand there."""
    assert "warmup_ratio" not in config("training.warmup_steps=5")
    assert "warmup_steps" not in config("training.warmup_ratio=0.1")


def test_constant_keeps_its_warmup() -> None:
    assert config("training.scheduler=constant")["lr_scheduler_type"] == "constant"
    warm = config("training.scheduler=constant", "training.warmup_steps=3")
    assert warm["lr_scheduler_type"] == "constant_with_warmup"


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_is_written_as_a_file(stage: int) -> None:
    loaded = load_text(
        BASE.format(method="sft").encode(), Path("r.yaml"), [f"distributed.strategy=deepspeed-zero{stage}"]
    )
    plan = llamafactory.plan(loaded.recipe, GPUS, PreparedData(), fixed_paths(loaded))
    written = json.loads(plan.files["backend/deepspeed.json"])
    assert written["zero_optimization"]["stage"] == stage
    assert yaml.safe_load(plan.files["backend/train.yaml"])["deepspeed"] == "backend/deepspeed.json"


@pytest.mark.parametrize(
    "overrides,topology,expected",
    [
        (["distributed.strategy=fsdp2"], Topology(), "distributed.strategy: fsdp2 needs GPUs"),
        (["tuning.quantization=8bit", "distributed.strategy=fsdp"], GPUS, "tuning.quantization: fsdp takes 4bit only"),
        (["training.precision=fp16"], Topology(), "training.precision: fp16 needs a GPU"),
        (["distributed.offload_parameters=true"], GPUS, "distributed.offload_parameters: needs distributed.strategy"),
        (["model.attention=flash_attention_2"], Topology(), "model.attention: flash_attention_2 needs a GPU"),
        (["training.global_batch_size=3"], GPUS, "training.global_batch_size: 3 does not divide"),
        (["backend_options={lora_rnk: 3}"], GPUS, "did you mean 'lora_rank'?"),
        (["backend_options={lora_rank: 3}"], GPUS, "the adapter sets this key itself; use the recipe's tuning.rank"),
        (
            ["tuning.lora_plus_ratio=16", "backend_options={loraplus_lr_embedding: five}"],
            GPUS,
            "'five' is not allowed; allowed: float",
        ),
        (["backend_options={use_muon: true}"], GPUS, "use the recipe's training.optimizer"),
        (["backend_options={optim: adafactor}"], GPUS, "use the recipe's training.optimizer"),
        (["backend_options={neftune_noise_alpha: 5}"], GPUS, "use the recipe's training.neftune_alpha"),
        (["training={optimizer: adafactor, betas: [0.8, 0.9]}"], GPUS, "training.betas: adafactor has none"),
        (["training={optimizer: lion, optimizer_options: {eps: 0.1}}"], GPUS, "optimizer_options.eps: lion has none"),
        (["model.add_tokens=[<a>]", "tuning={type: freeze}"], GPUS, "model.add_tokens: embeddings are not trained"),
        (["training.optimizer=muon", "tuning.lora_plus_ratio=4"], GPUS, "takes adamw in the place of muon"),
        *(
            (["training.optimizer=muon", f"distributed.strategy={name}"], GPUS, f"what {name} has made of them")
            for name in ("fsdp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3")
        ),
        *(
            (
                [f"training.optimizer={name}", "distributed={strategy: deepspeed-zero2, offload_optimizer: true}"],
                GPUS,
                f"its own Adam in the place of {name} there; allowed with it: adamw, lion",
            )
            for name in ("adafactor", "adamw_8bit", "paged_adamw_8bit")
        ),
        (["tuning.lora_plus_ratio=16", "distributed.strategy=fsdp"], GPUS, "both halves of an adapter at the raised"),
        *(
            (
                ["method=dpo", f"preference={{loss: {loss}, label_smoothing: 0.1}}"],
                GPUS,
                f"belongs to preference.loss: sigmoid, and the loss is {loss}",
            )
            for loss in ("hinge", "ipo")
        ),
        *(
            ([f"method={name}", "training.group_by_length=true"], GPUS, "a pair has two lengths")
            for name in ("dpo", "orpo", "simpo", "reward")
        ),
        (["training.kernels=liger"], Topology(), "training.kernels: liger needs a GPU"),
        (
            ["training={kernels: liger, compile: true}"],
            GPUS,
            "training.kernels: liger cannot be traced",
        ),
        (["training.optimizer=adamw_8bit"], Topology(), "adamw_8bit needs a GPU; allowed on a CPU: adamw, adafactor"),
        (["backend_options={plot_loss: 'yes please'}"], GPUS, "allowed: bool"),
        (
            ["backend_options={use_galore: true, galore_proj_type: up}"],
            GPUS,
            "allowed: std, reverse_std, right, left, full",
        ),
        (["method=dpo", "data.packing=true"], GPUS, "data.packing: only the rows of sft and pretrain can be packed"),
        (
            ["data.packing=true", "model.attention=flash_attention_2", "training.micro_batch_size=2"],
            GPUS,
            "training.micro_batch_size: must be 1 with data.packing and flash_attention_2",
        ),
    ],
)
def test_what_is_refused(overrides: list[str], topology: Topology, expected: str) -> None:
    found = problems(*overrides, topology=topology)
    assert any(expected in text for text in found), found


@pytest.mark.parametrize("init", ["gaussian", "orthogonal", "pissa", "olora"])
def test_an_init_starts_from_an_adapter_of_ours(init: str) -> None:
    """And what takes a part out of the base trains what is left of it, and is exported as an adapter of the base."""
    loaded = load_text(BASE.format(method="sft").encode(), Path("r.yaml"), [f"tuning.init={init}", "model.revision=v1"])
    plan = llamafactory.plan(loaded.recipe, GPUS, PreparedData(), fixed_paths(loaded))
    written, (command,) = yaml.safe_load(plan.files["backend/train.yaml"]), plan.before
    assert written["adapter_name_or_path"] == "backend/initial_adapter"
    told = json.loads(plan.files["backend/lora.json"])
    assert (told["init"], told["model"], told["revision"], told["options"]["r"]) == (init, "a/b", "v1", 16)
    moved = init in ("pissa", "olora")
    assert written["model_name_or_path"] == ("/runs/r/backend/residual" if moved else "a/b")
    assert written.get("model_revision") == (None if moved else "v1")
    assert ("--residual" in command, "--initial" in plan.export) == (moved, moved)
    assert any("of rank 32" in note for note in plan.notes) == moved


def test_added_tokens_make_the_embeddings_grow() -> None:
    given = ["model.add_tokens=[<ticker>, <isin>]"]
    assert config(*given)["resize_vocab"] is True and "resize_vocab" not in config()
    loaded = load_text(BASE.format(method="sft").encode(), Path("r.yaml"), given)
    argv = llamafactory.plan(loaded.recipe, GPUS, PreparedData(), fixed_paths(loaded)).argv
    assert argv[argv.index("--tokenizer") + 1] == "/runs/r/data/tokenizer"


def test_modules_are_saved_whole() -> None:
    assert config("tuning.modules_to_save=[embed_tokens, lm_head]")["additional_target"] == "embed_tokens,lm_head"
    assert "additional_target" not in config() and "adapter_name_or_path" not in config()


def test_native_options_go_in_as_they_are() -> None:
    given = "backend_options={use_llama_pro: true, torch_empty_cache_steps: 3}"
    assert {"use_llama_pro": True, "torch_empty_cache_steps": 3}.items() <= config(given).items()


def test_a_resume_names_its_checkpoint() -> None:
    written = config(resume=Checkpoint(step=4, path=Path("/runs/r/checkpoints/checkpoint-4")))
    assert written["resume_from_checkpoint"] == "/runs/r/checkpoints/checkpoint-4"


def test_torchrun_starts_more_than_one_process() -> None:
    loaded = load("quickstart", ["training.global_batch_size=64", "training.micro_batch_size=1"])
    topology = Topology(gpus=8, processes=8, nodes=2, node_rank=1, master_addr="10.0.0.1", master_port=1234)
    argv = llamafactory.plan(loaded.recipe, topology, PreparedData(), fixed_paths(loaded)).argv
    assert argv[1:8] == (
        "-m", "torch.distributed.run", "--nnodes=2", "--node_rank=1", "--master_addr=10.0.0.1", "--master_port=1234",
        "--nproc_per_node=8",
    )  # fmt: skip
    alone = llamafactory.plan(loaded.recipe, Topology(gpus=8, processes=8), PreparedData(), fixed_paths(loaded)).argv
    assert alone[1:5] == ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=8"), "on any free port"


def test_a_single_gpu_hides_the_others() -> None:
    """With more devices visible than processes LLaMA-Factory refuses to start."""
    loaded = load("quickstart")
    plan = llamafactory.plan(loaded.recipe, Topology(gpus=1, devices=("3",)), PreparedData(), fixed_paths(loaded))
    assert plan.env["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize(
    "line,expected",
    [
        ({"step": 1, "loss": 2.0, "grad_norm": 1.0}, {"step": 1, "loss": 2.0, "grad_norm": 1.0}),
        ({"step": 2, "eval_loss": 1.5, "eval_runtime": 3}, {"step": 2, "eval_loss": 1.5}),
        ({"step": 3, "train_runtime": 5.0, "train_loss": 1.0}, None),
        ({"event": "begin"}, None),
        ({"step": 1, "loss": 1.0, "kl": 0.1, "total_flos": 3}, {"step": 1, "loss": 1.0, "kl": 0.1}),
    ],
)
def test_metrics_get_unified_names(line: dict[str, Any], expected: dict[str, float] | None) -> None:
    assert llamafactory.read_metrics(line) == expected


def test_a_checkpoint_without_its_last_file_is_not_whole(tmp_path: Path) -> None:
    for step, text in ((2, "{}"), (10, "{}"), (12, None), (14, '{"torn')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    assert [c.step for c in llamafactory.checkpoints(tmp_path)] == [10, 2]
