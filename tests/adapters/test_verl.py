"""The verl adapter: what it writes, what it refuses, what it reads."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters import verl
from adapters.contract import Checkpoint, Plan, PreparedData, Topology
from adapters.verl import options, settings
from adapters.verl.export import export
from recipes import load_text
from tests.adapters.fixed import fixed_paths

BASE = "backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
CPU = Topology()
GPUS = Topology(gpus=4, processes=4, devices=tuple("0123"))
ROWS = PreparedData(train_rows=100, validation_rows=10)
FULL, EAGER = "tuning={type: full}", "model.attention=eager"
MEGATRON = ("distributed.strategy=megatron", FULL)


def planned(*overrides: str, topology: Topology = GPUS, data: PreparedData = ROWS, **given: Any) -> Plan:
    loaded = load_text(BASE.encode(), Path("r.yaml"), overrides)
    assert verl.problems(loaded, topology) == []
    return verl.plan(loaded.recipe, topology, data, fixed_paths(loaded), **given)


def config(*overrides: str, **given: Any) -> dict[str, Any]:
    """The config as dotted keys."""
    tree = yaml.safe_load(planned(*overrides, **given).files["backend/train.yaml"])
    flat: dict[str, Any] = {}

    def walk(node: dict[str, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = value

    walk(tree, "")
    return flat


def problems(*overrides: str, topology: Topology = GPUS) -> list[str]:
    loaded = load_text(BASE.encode(), Path("r.yaml"), overrides)
    return [f"{p.field}: {p.text}" for p in verl.problems(loaded, topology)]


@pytest.mark.parametrize(
    "overrides,rows,expected",
    [
        (["training.epochs=2"], 96, (6, 12, 2)),
        (["training.epochs=2"], 100, (7, 14, 2)),  # a last batch that is not full is a step, as on llamafactory
        (["training.epochs=0.5"], 100, (7, 4, 1)),
        (["training.max_steps=20"], 100, (7, 20, 3)),  # max_steps beats epochs
        (["training.epochs=3"], None, (None, None, 3)),
    ],
)
def test_steps_are_counted_as_on_llamafactory(overrides: list[str], rows: int | None, expected: Any) -> None:
    recipe = load_text(BASE.encode(), Path("r.yaml"), overrides).recipe
    found = settings.schedule(recipe, PreparedData(train_rows=rows))
    assert (found.per_epoch, found.total, found.epochs) == expected


def test_the_total_is_never_more_than_the_epochs_hold() -> None:
    """verl would end early, with exit code 0 and no checkpoint at all."""
    for rows in (16, 17, 100):
        for steps in (1, 7, 50):
            written = config(f"training.max_steps={steps}", data=PreparedData(train_rows=rows))
            assert written["trainer.total_training_steps"] == steps <= written["trainer.total_epochs"] * -(-rows // 16)


def test_warmup_is_rounded_up_as_on_llamafactory() -> None:
    written = config("training.warmup_ratio=0.1", "training.epochs=3")  # 21 steps
    assert written["optim.lr_warmup_steps"] == 3
    assert config("training.warmup_steps=5")["optim.lr_warmup_steps"] == 5
    assert config("training.warmup_ratio=0.1", data=PreparedData())["optim.lr_warmup_steps_ratio"] == 0.1


def test_numbers_are_numbers_in_the_yaml() -> None:
    written = config("training.learning_rate=1e-5")
    assert written["optim.lr"] == 1e-5 and isinstance(written["optim.lr"], float)


@pytest.mark.parametrize(
    "topology,asked,tuning,compute,kept",
    [
        (CPU, "auto", "lora", "fp32", "fp32"),
        (GPUS, "auto", "lora", "bf16", "bf16"),  # the frozen base; PEFT keeps the adapter in float32
        (GPUS, "auto", "full", "bf16", "fp32"),
        (GPUS, "fp16", "full", "fp16", "fp32"),
        (GPUS, "fp32", "lora", "fp32", "fp32"),
        (CPU, "bf16", "full", "bf16", "fp32"),
    ],
)
def test_precision(topology: Topology, asked: str, tuning: str, compute: str, kept: str) -> None:
    """verl computes in bf16 unless mixed_precision says otherwise, whatever model_dtype is."""
    plan = planned(f"training.precision={asked}", f"tuning={{type: {tuning}}}", topology=topology)
    tree = yaml.safe_load(plan.files["backend/train.yaml"])
    assert (tree["engine"]["mixed_precision"]["param_dtype"], tree["engine"]["model_dtype"]) == (compute, kept)
    assert compute in plan.export


def test_lora_starts_from_an_adapter_of_ours() -> None:
    """Its own keys have no dropout; and with the adapter's path alone it would train the full model."""
    plan = planned("tuning={rank: 8, alpha: 24, dropout: 0.1, target_modules: [q_proj, v_proj], rslora: true}")
    told = json.loads(plan.files["backend/lora.json"])
    assert told["options"] == {
        "r": 8, "lora_alpha": 24, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"],
        "use_rslora": True, "use_dora": False,
    }  # fmt: skip
    model = yaml.safe_load(plan.files["backend/train.yaml"])["model"]
    assert (model["lora_rank"], model["lora_alpha"]) == (8, 24)
    assert model["lora_adapter_path"] == "/runs/r/backend/initial_adapter"
    assert plan.before[0][1:] == ("-m", "adapters.initial_adapter", "backend/lora.json", "backend/initial_adapter")
    assert plan.export[-2:] == ("--adapter", "backend/initial_adapter")


def test_an_init_goes_into_the_adapter_where_the_base_stays_as_it_is() -> None:
    assert json.loads(planned("tuning.init=orthogonal").files["backend/lora.json"])["init"] == "orthogonal"
    (text,) = problems("tuning.init=pissa")
    assert "this init needs another; this runs on backend: llamafactory" in text
    (text,) = problems("model.add_tokens=[<ticker>]")
    assert text.endswith("this runs on backend: llamafactory")
    (text,) = problems("tuning.modules_to_save=[lm_head]")
    assert "verl keeps the LoRA matrices alone" in text


def test_what_adamw_takes_is_written_where_verl_reads_it() -> None:
    """Under megatron verl passes over optim.betas."""
    given = "training={betas: [0.8, 0.95], optimizer_options: {eps: 1e-6}}"
    found = config(given)
    assert (found["optim.betas"], found["optim.override_optimizer_config.eps"]) == ([0.8, 0.95], 1e-6)
    found = config(FULL, given, "distributed.strategy=megatron")
    more = ("adam_beta1", "adam_beta2", "adam_eps")
    assert [found[f"optim.override_optimizer_config.{name}"] for name in more] == [0.8, 0.95, 1e-6]


def test_full_training_has_no_adapter() -> None:
    plan = planned(FULL)
    assert plan.before == () and "backend/lora.json" not in plan.files and "--adapter" not in plan.export
    assert config(FULL)["model.lora_rank"] == 0
    assert config(FULL)["checkpoint.save_lora_only"] is False


def test_weight_decay_spares_norms_and_biases_as_on_llamafactory() -> None:
    assert "optim.optimizer_impl" not in config(FULL)
    assert config(FULL, "training.weight_decay=0.1")["optim.optimizer_impl"] == "adapters.verl.optimizer"


def test_short_rows_share_a_micro_batch_of_no_more_tokens_than_long_ones() -> None:
    """Filled up, one of a long row and of many short ones would be many times what was asked for."""
    keys = ("model.use_remove_padding", "data.use_dynamic_bsz", "data.max_token_len_per_gpu")

    def found(*overrides: str, longest: int | None = None) -> list[object]:
        data = PreparedData(train_rows=40, longest=longest)
        tree = config("training.micro_batch_size=2", *overrides, data=data)
        return [tree.get(key) for key in keys]

    limit = load_text(BASE.encode(), Path("r.yaml")).recipe.data.max_length
    assert found() == [True, True, 2 * limit]
    assert found(longest=100) == [True, True, 200]
    assert found("distributed.max_tokens_per_device=4096", longest=100) == [True, True, 4096]
    assert found("data.packing=true", longest=limit) == [True, True, 2 * limit]
    assert found(EAGER, longest=100) == [False, False, None]
    assert found(EAGER, "distributed.remove_padding=true") == [True, False, None]
    assert found(FULL, "distributed.strategy=megatron", longest=100)[1:] == [False, None]


def test_what_asks_for_rows_one_behind_the_other_is_told_to_the_entry() -> None:
    """Which ends where the model does not keep them apart, and else would fill them up."""
    assert "--together" not in planned().argv
    for asked in ("distributed.max_tokens_per_device=4096", "data.packing=true", "distributed.remove_padding=true"):
        argv = planned(asked).argv
        assert argv[argv.index("--together") + 1] == asked.split("=")[0]


def test_a_plan_for_gpus_has_nothing_of_the_cpu_platform() -> None:
    plan = planned()
    assert "VERL_USE_EXTERNAL_MODULES" not in plan.env and "VERL_ENGINE_DEVICE" not in plan.env
    assert "adapters.verl.cpu" not in json.dumps([plan.argv, dict(plan.files)])
    assert planned(topology=CPU).env["VERL_USE_EXTERNAL_MODULES"] == "adapters.verl.cpu"


def test_one_process_needs_no_torchrun() -> None:
    plan = planned(topology=CPU)
    assert plan.argv == ("/env/bin/python", "-m", "adapters.verl.train", "backend/train.yaml")
    assert (plan.env["WORLD_SIZE"], plan.env["MASTER_PORT"]) == ("1", "0")
    assert "torch.distributed.run" in planned().argv and "WORLD_SIZE" not in planned().env


def test_a_revision_goes_to_the_entry_and_to_the_initial_adapter() -> None:
    """verl has no key for it."""
    plan = planned("model.revision=v1", topology=CPU)
    assert plan.argv[-3:] == ("--model-revision", "v1", "backend/train.yaml")
    assert json.loads(plan.files["backend/lora.json"])["revision"] == "v1"


def test_each_attempt_has_a_metrics_file_of_its_own() -> None:
    """verl truncates the file that it finds."""
    plan = planned(attempt=3)
    assert plan.metrics == plan.env["VERL_FILE_LOGGER_PATH"] == "backend/metrics-3.jsonl"


def test_a_resume_names_its_checkpoint() -> None:
    written = config(resume=Checkpoint(step=4, path=Path("/runs/r/checkpoints/global_step_4")))
    assert written["trainer.resume_mode"] == "resume_path"
    assert written["trainer.resume_from_path"] == "/runs/r/checkpoints/global_step_4"
    assert config()["trainer.resume_mode"] == "disable"


def test_validation_only_where_it_is_asked_for_and_there() -> None:
    asked = ("eval.loss_every=5", "data.validation.fraction=0.1")
    assert config(*asked)["data.val_files"] == "/runs/r/data/tokenized/validation"
    assert config(*asked)["trainer.test_freq"] == 5
    empty = config(*asked, data=PreparedData(train_rows=100, validation_rows=0))
    assert "data.val_files" not in empty and empty["trainer.test_freq"] == -1
    assert "data.val_files" not in config("data.validation.fraction=0.1")


def test_megatron_has_keys_of_its_own() -> None:
    spread = "distributed={strategy: megatron, tensor_parallel: 2, pipeline_parallel: 2, offload_parameters: true}"
    written = config(spread, FULL, "training.scheduler=linear")
    assert "override engine@engine: megatron" in str(planned(spread, FULL).files).replace("'", "")
    assert written["engine.tensor_model_parallel_size"] == written["engine.pipeline_model_parallel_size"] == 2
    assert written["engine.param_offload"] is True
    assert written["optim.lr_decay_style"] == "linear" and "optim.lr_scheduler_type" not in written
    assert written["engine.dtype"] == "bfloat16" and "engine.mixed_precision.param_dtype" not in written


def test_lora_under_megatron_has_keys_and_layers_of_its_own() -> None:
    tuning = "tuning={rank: 4, dropout: 0.1, target_modules: [q_proj, down_proj]}"
    given = ("distributed.strategy=megatron", tuning)
    written, plan = config(*given), planned(*given)
    lora = {key.removeprefix("model.lora."): value for key, value in written.items() if "lora" in key}
    assert lora == {
        "type": "canonical_lora", "rank": 4, "alpha": 8, "dropout": 0.1, "lora_A_init_method": "kaiming",
        "target_modules": ["linear_q", "linear_fc2"],
    }  # fmt: skip
    assert plan.before == () and "--adapter" not in plan.export


def test_a_path_is_no_reference_of_hydra(tmp_path: Path) -> None:
    (tmp_path / "${x}").mkdir()
    loaded = load_text(BASE.encode(), Path("r.yaml"), [f"model.path={tmp_path}/${{x}}"])
    plan = verl.plan(loaded.recipe, GPUS, ROWS, fixed_paths(loaded))
    assert yaml.safe_load(plan.files["backend/train.yaml"])["model"]["path"] == f"{tmp_path}/\\${{x}}"


@pytest.mark.parametrize(
    "overrides,topology,expected",
    [
        (["training.scheduler=linear"], GPUS, "training.scheduler: verl has cosine and constant"),
        (["training.log_every=5"], GPUS, "training.log_every: verl reports every step"),
        (
            ["data.packing=true", "distributed.strategy=megatron"],
            GPUS,
            "data.packing: under megatron the rows of a pack would see one another",
        ),
        (["training.global_batch_size=6"], GPUS, "6 does not divide by 4 devices; nearest: 4 or 8"),
        (["training.micro_batch_size=5"], GPUS, "training.micro_batch_size: 5 is more than a device has of"),
        ([EAGER, "training.micro_batch_size=3"], CPU, "by micro_batch_size 3 x 1 device; nearest: 15 or 18"),
        (["distributed.strategy=fsdp"], CPU, "distributed.strategy: fsdp needs GPUs on verl; on a CPU: fsdp2"),
        (["distributed.offload_optimizer=true"], CPU, "distributed.offload_optimizer: there is no GPU"),
        (["training.precision=fp16"], CPU, "training.precision: fp16 needs a GPU"),
        (["model.attention=flash_attention_2"], CPU, "model.attention: flash_attention_2 needs a GPU"),
        ([EAGER, "distributed.sequence_parallel=2"], GPUS, "needs distributed.remove_padding: true"),
        (["distributed.sequence_parallel=2"], GPUS, "needs model.attention: flash_attention_2"),
        (["distributed.sequence_parallel=3"], GPUS, "4 processes do not divide"),
        (["distributed.max_tokens_per_device=100"], GPUS, "below data.max_length (2048)"),
        (["distributed.tensor_parallel=2"], GPUS, "distributed.tensor_parallel: belongs to strategy: megatron"),
        (["distributed.strategy=megatron", "tuning={rslora: true}"], GPUS, "tuning.rslora: its LoRA under Megatron"),
        (
            ["distributed.strategy=megatron", "tuning={target_modules: [q_prj]}"],
            GPUS,
            "tuning.target_modules: q_prj has no name in Megatron here; allowed: q_proj, k_proj, v_proj, o_proj, "
            "gate_proj, up_proj, down_proj; did you mean 'q_proj'?",
        ),
        ([*MEGATRON, "distributed.tensor_parallel=3"], GPUS, "distributed.tensor_parallel: 4 processes do not divide"),
        ([*MEGATRON, "training.precision=fp32"], GPUS, "training.precision: fp32 does not go with"),
        (
            ["distributed.strategy=fsdp", FULL, "training.weight_decay=0.1"],
            GPUS,
            "training.weight_decay: under strategy: fsdp verl decays norms and biases too",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(overrides: list[str], topology: Topology, expected: str) -> None:
    found = problems(*overrides, topology=topology)
    assert any(expected in text for text in found), found


@pytest.mark.parametrize(
    "given,expected",
    [
        ("{model.use_fused_kernels: true, engine: {forward_prefetch: true}}", None),
        (
            "{model: {override_config: {rope_scaling: {factor: 2.0}}}}",
            "rope_scaling.factor: the adapter does not keep it",
        ),
        ("{model: {override_config: {attention_dropout: 0.1}}}", None),
        ("{engine.wrap_policy.transformer_layer_cls_to_wrap: [Qwen3DecoderLayer]}", None),
        ("{optim.override_optimizer_config: {fused: true}}", None),
        ("{model.use_ligr: true}", "model.use_ligr: verl 0.9.1 has no such key; did you mean 'model.use_liger'?"),
        ("{model.use_liger: true}", "the adapter sets this key itself; use the recipe's training.kernels"),
        ("{model.use_fused_kernels: 3}", "model.use_fused_kernels: 3 is not allowed; allowed: bool"),
        ("{optim.min_lr_ratio: low}", "optim.min_lr_ratio: 'low' is not allowed; allowed: float or null"),
        ("{model: {mtp: 3}}", "model.mtp: verl 0.9.1 has no such key; it holds model.mtp.detach_encoder"),
        ("{optim: {lr: 1}}", "optim.lr: the adapter sets this key itself; use the recipe's training.learning_rate"),
        ("{model: {target_modules: [q]}}", "model.target_modules: use the recipe's tuning.target_modules"),
        ("{trainer.device: cpu}", "trainer.device: the machines are the runner's; set N_GPUS"),
        ("{data.truncation: left}", "data.truncation: the rows come prepared"),
        ("{engine.tensor_model_parallel_size: 2}", "engine.tensor_model_parallel_size: verl 0.9.1 has no such key"),
    ],
)
def test_native_options_are_checked(given: str, expected: str | None) -> None:
    found = problems(f"backend_options={given}")
    assert found == [] if expected is None else len(found) == 1 and expected in found[0], found


def test_native_options_go_in_at_their_place() -> None:
    given = (
        "backend_options={model: {use_fused_kernels: true}, engine.forward_prefetch: true, optim.min_lr_ratio: null}"
    )
    written = config(given)
    assert written["model.use_fused_kernels"] is True and written["engine.forward_prefetch"] is True
    assert written["optim.min_lr_ratio"] is None


def test_the_adapters_own_keys_are_keys_of_verl() -> None:
    """What it writes is in the tree that the pinned version composes."""
    added = {"data.seed"}  # read by our own data set
    for overrides, engine in (
        ((), "sft-fsdp"),
        ((FULL, "training.weight_decay=0.1"), "sft-fsdp"),
        (MEGATRON, "sft-megatron"),
    ):
        known = options.tree(engine)
        for key in config(*overrides, "eval.loss_every=2", "data.validation.fraction=0.1"):
            if key.startswith(("defaults", "hydra")) or key in added:
                continue
            assert key in known or options._free(key, known), key


@pytest.mark.parametrize(
    "line,expected",
    [
        (
            {
                "step": 1,
                "data": {"train/loss": 2.0, "train/lr": 1e-4, "train/grad_norm": 1.0, "train/global_tokens": 7},
            },
            {"step": 1, "loss": 2.0, "learning_rate": 1e-4, "grad_norm": 1.0, "tokens": 7.0},
        ),
        ({"step": 2, "data": {"val/loss": 1.5}}, {"step": 2, "eval_loss": 1.5}),
        (
            {"step": 3, "data": {"train/loss": 1.0, "train/epoch": 0.5, "perf/max_memory_allocated_gb": 1.0}},
            {"step": 3, "loss": 1.0, "epoch": 0.5, "memory_gb": 1.073741824},
        ),
        ({"step": 4, "data": {"timing_s/gen": 1.5}}, None),
        ({"event": "begin", "total_steps": 4}, None),
    ],
)
def test_metrics_get_unified_names(line: dict[str, Any], expected: dict[str, float] | None) -> None:
    assert verl.read_metrics(line) == expected


def write_checkpoint(directory: Path, step: int, world: int = 1) -> Path:
    path = directory / f"global_step_{step}"
    (path / "huggingface").mkdir(parents=True)
    (path / "huggingface/config.json").write_text("{}")
    (path / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world}))
    (path / "data_0.pt").write_bytes(b"")
    for kind in ("model", "optim", "extra_state"):
        for rank in range(world):
            (path / f"{kind}_world_size_{world}_rank_{rank}.pt").write_bytes(b"")
    (directory / "latest_checkpointed_iteration.txt").write_text(str(step))
    return path


def test_whole_checkpoints_are_listed_newest_first(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        write_checkpoint(tmp_path, step, world=2)
    assert [c.step for c in verl.checkpoints(tmp_path)] == [10, 4, 2]
    assert verl.checkpoints(tmp_path / "none") == []


def test_a_checkpoint_beyond_the_tracker_was_being_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 4)
    write_checkpoint(tmp_path, 6)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    assert [c.step for c in verl.checkpoints(tmp_path)] == [4]


@pytest.mark.parametrize(
    "lost", ["optim_world_size_2_rank_1.pt", "fsdp_config.json", "data_0.pt", "huggingface/config.json"]
)
def test_a_checkpoint_that_was_being_removed_is_not_whole(tmp_path: Path, lost: str) -> None:
    write_checkpoint(tmp_path, 2, world=2)
    path = write_checkpoint(tmp_path, 4, world=2)
    (path / lost).unlink()
    assert [c.step for c in verl.checkpoints(tmp_path)] == [2]


def test_a_checkpoint_of_megatron_is_vouched_for_by_the_tracker(tmp_path: Path) -> None:
    (tmp_path / "global_step_4/model/huggingface").mkdir(parents=True)
    assert verl.checkpoints(tmp_path) == []
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    assert [c.step for c in verl.checkpoints(tmp_path)] == [4]


@pytest.mark.parametrize("tuning,kept", [("lora", "adapter_model.safetensors"), ("full", "model.safetensors")])
def test_a_checkpoint_of_megatron_holds_the_model_to_keep(tmp_path: Path, tuning: str, kept: str) -> None:
    """Its bridge writes a PEFT adapter, or the whole model, in Hugging Face's form."""
    source = tmp_path / "global_step_4/model/huggingface"
    (source / "adapter").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"):
        (source / name).write_text(name)
    if tuning == "full":
        shutil.rmtree(source / "adapter")
        (source / "model.safetensors").write_text("model.safetensors")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    export(tmp_path, tmp_path / "out", "bf16", adapter=None, template=None, trust=False)
    found = {file.name for file in (tmp_path / "out").iterdir()}
    settings_file = {"adapter_config.json"} if tuning == "lora" else {"config.json"}
    assert found == {kept, "tokenizer.json"} | settings_file


def test_planning_imports_no_framework() -> None:
    code = (
        "import sys; from pathlib import Path; from recipes import load_text\n"
        "from adapters import backend, contract as plan\n"
        f"loaded = load_text({BASE.encode()!r}, Path('r.yaml'))\n"
        "module = backend('verl'); module.problems(loaded, plan.Topology())\n"
        "paths = plan.Paths(run=Path('/r'), python=Path('/p'), model='m')\n"
        "module.plan(loaded.recipe, plan.Topology(), plan.PreparedData(), paths)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert not {"torch", "verl", "hydra", "omegaconf", "transformers", "numpy", "ray"} & set(ast.literal_eval(shown))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_lock_holds_names_and_versions_only(device: str) -> None:
    lock = verl.LOCKS[device]
    lines = lock.read_text(encoding="utf-8").splitlines()
    assert all("==" in line and "://" not in line and not line.startswith(("#", "-")) for line in lines)
    wanted = [line.split(";")[0].strip() for line in lock.with_suffix(".in").read_text(encoding="utf-8").splitlines()]
    pinned = {re.sub(r"\[.*\]", "", line).lower() for line in wanted if "==" in line and not line.startswith("#")}
    assert pinned <= {line.split(" ;")[0] for line in lines}
    assert any(line.startswith("vllm==0.24.0") for line in lines) == (device == "cuda")
