"""GRPO on verl: what the adapter writes, what it refuses, what it reads."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters import verl
from adapters.contract import Checkpoint, Paths, Plan, PreparedData, Topology
from adapters.verl import config, grpo, options, reward, settings
from recipes import load_text
from runner.files import code_directory
from tests.adapters.fixed import fixed_paths

BASE = (
    "backend: verl\nmethod: grpo\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
    "grpo: {rewards: [{type: number}, {type: regex, pattern: '[$]{x}', weight: 0.5}]}\n"
)
CPU = Topology()
GPUS = Topology(gpus=4, processes=4, devices=tuple("0123"))
ROWS = PreparedData(train_rows=100, validation_rows=10)
FULL = "tuning={type: full}"
VALIDATED = ("eval.loss_every=5", "data.validation.fraction=0.1")
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def planned(*overrides: str, topology: Topology = GPUS, data: PreparedData = ROWS, **given: Any) -> Plan:
    loaded = load_text(BASE.encode(), Path("r.yaml"), overrides)
    assert verl.problems(loaded, topology) == []
    return verl.plan(loaded.recipe, topology, data, fixed_paths(loaded), **given)


def written(*overrides: str, **given: Any) -> dict[str, Any]:
    """The config as dotted keys."""
    return config.flat(yaml.safe_load(planned(*overrides, **given).files["backend/train.yaml"]))


def problems(*overrides: str, topology: Topology = GPUS) -> list[str]:
    loaded = load_text(BASE.encode(), Path("r.yaml"), overrides)
    return [f"{p.field}: {p.text}" for p in verl.problems(loaded, topology)]


def test_micro_batches_by_tokens_are_not_filled_up() -> None:
    asked = written("distributed.max_tokens_per_device=2048")
    assert asked["actor_rollout_ref.model.use_remove_padding"] is True
    assert asked["actor_rollout_ref.actor.ppo_max_token_len_per_gpu"] == 2048
    assert written()["actor_rollout_ref.model.use_remove_padding"] is False


def test_batches_count_prompts_and_micro_batches_replies() -> None:
    found = written("training.global_batch_size=16", "grpo.mini_batch_size=8", "training.micro_batch_size=4")
    assert found["data.train_batch_size"] == 16 and found[f"{ACTOR}.ppo_mini_batch_size"] == 8
    assert found[f"{ACTOR}.ppo_micro_batch_size_per_gpu"] == 4
    assert found[f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu"] == 4
    assert written()[f"{ACTOR}.ppo_mini_batch_size"] == 16  # the global batch size


@pytest.mark.parametrize(
    "overrides,expected",
    [
        (["training.epochs=2"], (6, 12, 2)),  # verl leaves the last, smaller batch out
        (["training.max_steps=20"], (6, 20, 4)),
        (["training.epochs=0.5"], (6, 3, 1)),
    ],
)
def test_an_epoch_has_whole_batches_only(overrides: list[str], expected: tuple[int, int, int]) -> None:
    recipe = load_text(BASE.encode(), Path("r.yaml"), overrides).recipe
    found = settings.schedule(recipe, ROWS)
    assert (found.per_epoch, found.total, found.epochs) == expected
    assert any("leaves out 4 prompts" in note for note in planned(*overrides).notes)


def test_the_divergence_goes_into_the_loss_or_the_reward() -> None:
    found = written("grpo.kl_coef=0.01")
    assert found[f"{ACTOR}.use_kl_loss"] is True and found[f"{ACTOR}.kl_loss_coef"] == 0.01
    assert "algorithm.use_kl_in_reward" not in found
    found = written("grpo.kl_coef=0.01", "grpo.kl_in=reward")
    assert found["algorithm.use_kl_in_reward"] is True and found["algorithm.kl_ctrl.kl_coef"] == 0.01
    assert f"{ACTOR}.use_kl_loss" not in found


def test_without_a_coefficient_no_reference_model_is_asked() -> None:
    plan = planned("grpo.kl_coef=0")
    assert config.flat(yaml.safe_load(plan.files["backend/train.yaml"]))[f"{ACTOR}.use_kl_loss"] is False
    assert any("no kl" in note for note in plan.notes)


def test_clipping_is_the_same_on_both_sides() -> None:
    found = written("grpo.clip_ratio=0.3")
    assert {found[f"{ACTOR}.clip_ratio{side}"] for side in ("", "_low", "_high")} == {0.3}
    found = written("grpo.clip_ratio_high=0.28")
    assert [found[f"{ACTOR}.clip_ratio{side}"] for side in ("", "_low", "_high")] == [0.2, 0.2, 0.28]


def test_an_advantage_is_verls_estimator() -> None:
    named = {"grpo": "grpo", "rloo": "rloo", "reinforce++": "reinforce_plus_plus", "dr_grpo": "grpo"}
    for name, estimator in named.items():
        found = written(f"grpo.advantage={name}")
        assert found["algorithm.adv_estimator"] == estimator
        assert found.get("algorithm.norm_adv_by_std_in_grpo") is (False if name == "dr_grpo" else None)


@pytest.mark.parametrize("topology,kind,dtype", [(CPU, "fp32", "float32"), (GPUS, "bf16", "bfloat16")])
def test_actor_reference_and_rollouts_compute_alike(topology: Topology, kind: str, dtype: str) -> None:
    found = written(topology=topology)
    for part in ("actor", "ref"):
        assert found[f"actor_rollout_ref.{part}.fsdp_config.mixed_precision.param_dtype"] == kind
    assert found[f"{ROLLOUT}.dtype"] == dtype


def test_the_rewards_go_into_a_file_of_their_own() -> None:
    plan = planned()
    told = json.loads(plan.files["backend/rewards.json"])
    assert [reward["type"] for reward in told] == ["number", "regex"] and told[1]["pattern"] == "[$]{x}"
    assert plan.env["RECIPE_REWARDS"] == "/runs/r/backend/rewards.json"


def test_a_checkpoint_at_the_end_whatever_every_says() -> None:
    """verl saves nothing at all where save_freq is not positive."""
    assert written("checkpoint.every=null")["trainer.save_freq"] > 10**6
    assert written("checkpoint.every=7")["trainer.save_freq"] == 7


def test_validation_only_where_it_is_asked_for_and_there() -> None:
    found = written(*VALIDATED)
    assert found["data.val_files"] == "/runs/r/data/validation.jsonl"
    assert found["trainer.test_freq"] == 5 and found["trainer.val_before_train"] is True
    found = written(*VALIDATED, data=PreparedData(train_rows=100, validation_rows=0))
    assert found["data.val_files"] == "/runs/r/data/train.jsonl"  # it wants some file
    assert found["trainer.test_freq"] == -1 and found["trainer.val_before_train"] is False


def test_a_resume_names_its_checkpoint_and_does_not_validate_again() -> None:
    found = written(*VALIDATED, resume=Checkpoint(step=4, path=Path("/runs/r/checkpoints/global_step_4")))
    assert found["trainer.resume_from_path"] == "/runs/r/checkpoints/global_step_4"
    assert found["trainer.resume_mode"] == "resume_path" and found["trainer.val_before_train"] is False


def test_a_chat_template_goes_to_the_trainer_as_a_file() -> None:
    loaded = load_text(BASE.encode(), Path("r.yaml"))
    recipe = loaded.recipe
    object.__setattr__(recipe.model, "chat_template", "/t/own.jinja")
    plan = verl.plan(recipe, GPUS, ROWS, fixed_paths(loaded))
    assert plan.argv[1:] == (
        "-m", "adapters.verl.train_grpo", "--chat-template", "/t/own.jinja", "backend/train.yaml",
    )  # fmt: skip
    assert "custom_chat_template" not in plan.files["backend/train.yaml"]


def test_a_plan_for_gpus_has_nothing_of_the_cpu_platform() -> None:
    plan = planned()
    assert plan.env["VERL_USE_EXTERNAL_MODULES"] == "adapters.verl.ray_process"
    assert not {"VERL_ENGINE_DEVICE", "VLLM_TARGET_DEVICE", "PYTHONPATH"} & plan.env.keys()
    assert not any("dist-info" in name for name in plan.files)
    tree = plan.files["backend/train.yaml"]
    assert "enforce_eager" not in tree and "num_gpus" not in tree and "use_torch_compile" not in tree
    assert plan.unset == ("RAY_ADDRESS",)


def test_a_plan_for_a_cpu_brings_the_distribution_that_vllm_is_known_by() -> None:
    """With our code, never with the run: what lies in a run is data, and is on no import path."""
    plan = planned(topology=CPU)
    assert plan.env["VERL_USE_EXTERNAL_MODULES"] == "adapters.verl.ray_process,adapters.verl.cpu"
    assert plan.env["PYTHONPATH"] == "/code/adapters/verl/as_vllm" and not any("python/" in f for f in plan.files)
    found = next(iter(metadata.distributions(name="vllm", path=[str(code_directory() / "adapters/verl/as_vllm")])))
    assert found.version == "0.24.0+cpu"
    assert [(e.group, e.value) for e in found.entry_points] == [
        ("vllm.general_plugins", "adapters.verl.cpu_vllm:keep_weights")
    ]


def test_each_run_has_a_ray_of_its_own() -> None:
    one, two = (Paths(run=Path("/runs") / name, python=Path("p"), model="m") for name in ("a", "b"))
    assert grpo.ray_directory(one) != grpo.ray_directory(two)
    longest = f"{grpo.ray_directory(one)}/session_2026-11-21_07-19-21_940123_4194304/sockets/plasma_store"
    assert len(longest) <= 107  # of a Unix socket
    plan = planned()
    assert plan.env["RECIPE_RAY_JOB"] in plan.files["backend/train.yaml"]
    assert "address: local" in plan.files["backend/train.yaml"] and "RAY_ADDRESS" in plan.unset


@pytest.mark.parametrize(
    "overrides,topology,expected",
    [
        (["grpo.mini_batch_size=6"], GPUS, "grpo.mini_batch_size: 6 does not divide training.global_batch_size 16"),
        (["training.micro_batch_size=3"], CPU, "16 prompts x 8 replies do not divide by micro_batch_size 3 x 1 device"),
        (["training.global_batch_size=1", "grpo.rollouts.n=2"], GPUS, "1 prompts x 2 replies do not divide by"),
        (["grpo.rollouts.tensor_parallel=3"], GPUS, "grpo.rollouts.tensor_parallel: 3 does not divide the 4 devices"),
        (["grpo.rollouts.tensor_parallel=2"], CPU, "grpo.rollouts.tensor_parallel: 2 does not divide the 1 devices"),
        (["grpo.rollouts.engine=sglang"], CPU, "grpo.rollouts.engine: sglang needs a GPU; on a CPU: vllm"),
        (["distributed.strategy=megatron", FULL], GPUS, "distributed.strategy: megatron trains sft only so far"),
        (["distributed.strategy=fsdp"], CPU, "distributed.strategy: fsdp needs GPUs on verl"),
        (["tuning={dora: true}"], GPUS, "tuning.dora: vLLM cannot make rollouts with DoRA"),
        (["tuning={rank: 1024}"], GPUS, "tuning.rank: vLLM takes LoRA up to rank 512"),
        (["data.overlong=truncate"], GPUS, "data.overlong: a prompt is not cut; allowed for grpo: drop, error"),
        (["data.max_length=4096"], GPUS, "data.max_length: GRPO has grpo.rollouts.max_prompt_length"),
        (["data.train_on=last_turn"], GPUS, "data.train_on: belongs to sft"),
        (["training.scheduler=linear"], GPUS, "training.scheduler: verl has cosine and constant"),
        (["distributed.max_tokens_per_device=1000"], GPUS, "below the longest prompt and reply (1024)"),
        (["distributed.sequence_parallel=3"], GPUS, "4 processes do not divide among"),
        (["distributed.tensor_parallel=2"], GPUS, "distributed.tensor_parallel: belongs to strategy: megatron"),
        (["backend_options={algorithm.adv_estimator: gae}"], GPUS, "the adapter sets this key itself"),
        (["backend_options={actor_rollout_ref.rollout.n: 4}"], GPUS, "use the recipe's grpo.rollouts.n"),
        (["backend_options={actor_rollout_ref.actor.entropy_coef: 1}"], GPUS, "did you mean"),
        (["backend_options={trainer.log_val_generations: much}"], GPUS, "'much' is not allowed; allowed: int"),
    ],
)
def test_what_is_refused(overrides: list[str], topology: Topology, expected: str) -> None:
    found = problems(*overrides, topology=topology)
    assert any(expected in text for text in found), found


def test_on_several_nodes_all_meet_at_one_ray() -> None:
    nodes = Topology(gpus=8, processes=8, nodes=2, node_rank=1, master_addr="10.0.0.1", master_port=1234)
    plan = planned("training.global_batch_size=16", topology=nodes)
    assert plan.argv[-6:] == (
        "adapters.verl.train_grpo", "--node-rank", "1", "--ended", "backend/ended-1", "backend/train.yaml",
    )  # fmt: skip
    found = config.flat(yaml.safe_load(plan.files["backend/train.yaml"]))
    assert found["trainer.nnodes"] == 2 and found["ray_kwargs.ray_init.address"] == "10.0.0.1:1234"
    assert not {"ray_kwargs.ray_init.num_cpus", "ray_kwargs.ray_init.num_gpus"} & found.keys()


def test_native_options_go_in_at_their_place() -> None:
    found = written("backend_options={algorithm.norm_adv_by_std_in_grpo: false, trainer: {log_val_generations: 2}}")
    assert found["algorithm.norm_adv_by_std_in_grpo"] is False and found["trainer.log_val_generations"] == 2


def test_the_adapters_own_keys_are_keys_of_verl() -> None:
    known = options.tree("grpo")
    for topology in (CPU, GPUS):
        for key in written(*VALIDATED, topology=topology):
            assert key in known or options._free(key, known) or key.startswith(("defaults", "hydra")), key


def test_metrics_get_unified_names() -> None:
    data = {
        "actor/loss": 0.1, "actor/lr": 1e-4, "actor/grad_norm": 2.0, "actor/entropy": 3.0, "actor/kl_loss": 0.01,
        "actor/pg_clipfrac": 0.2, "critic/score/mean": 1.25, "reward/number": 0.75, "reward/regex": 1.0,
        "response_length/mean": 9.5, "perf/total_num_tokens": 400, "timing_s/step": 3.5, "train/epoch": 0.5,
        "val-core/recipe/reward/mean@1": 1.0, "val-aux/recipe/reward/number/mean@1": 0.5,
        "val-aux/recipe/reward/number/std@4": 0.5, "actor/perf/max_memory_allocated_gb": 1.0,
    }  # fmt: skip
    assert verl.read_metrics({"step": 3, "data": data}) == {
        "step": 3, "loss": 0.1, "learning_rate": 1e-4, "grad_norm": 2.0, "entropy": 3.0, "kl": 0.01,
        "clip_fraction": 0.2, "reward": 1.25, "reward/number": 0.75, "reward/regex": 1.0, "reply_length": 9.5,
        "tokens": 400.0, "step_time_s": 3.5, "epoch": 0.5, "eval_reward": 1.0, "eval_reward/number": 0.5,
        "memory_gb": 1.073741824,
    }  # fmt: skip
    only = {"step": 0, "data": {"val-core/recipe/reward/mean@1": 0.25}}
    assert verl.read_metrics(only) == {"step": 0, "eval_reward": 0.25}


def test_verl_gets_the_sum_and_the_parts_and_a_failure_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = tmp_path / "failures.jsonl"
    (tmp_path / "rewards.json").write_text(planned().files["backend/rewards.json"])
    monkeypatch.setenv("RECIPE_REWARDS", str(tmp_path / "rewards.json"))
    monkeypatch.setenv("RECIPE_REWARD_FAILURES", str(failures))
    reward._loaded.cache_clear()
    given: dict[str, Any] = {"extra_info": {"row": {"prompt": [], "answer": "4"}}, "more": 1}
    assert reward.compute_score("recipe", "$x 4", "4", **given) == {
        "score": 1.0, "reward/number": 1.0, "reward/regex": 0.0,
    }  # fmt: skip
    assert not failures.exists()
    assert reward.compute_score("recipe", "4", "four", **given) == {"score": 0.0}
    assert json.loads(failures.read_text())["error"] == "number: the reference 'four' has no number"


def write_checkpoint(directory: Path, step: int) -> Path:
    path = directory / f"global_step_{step}"
    (path / "actor/huggingface").mkdir(parents=True)
    (path / "actor/huggingface/config.json").write_text("{}")
    (path / "actor/fsdp_config.json").write_text(json.dumps({"world_size": 1}))
    (path / "data.pt").write_bytes(b"")
    for kind in ("model", "optim", "extra_state"):
        (path / f"actor/{kind}_world_size_1_rank_0.pt").write_bytes(b"")
    (directory / "latest_checkpointed_iteration.txt").write_text(str(step))
    return path


@pytest.mark.parametrize("lost", ["data.pt", "actor/fsdp_config.json", "actor/optim_world_size_1_rank_0.pt"])
def test_whole_checkpoints_have_the_actor_and_the_place_in_the_data(tmp_path: Path, lost: str) -> None:
    write_checkpoint(tmp_path, 2)
    path = write_checkpoint(tmp_path, 4)
    assert [c.step for c in verl.checkpoints(tmp_path)] == [4, 2]
    (path / lost).unlink()
    assert [c.step for c in verl.checkpoints(tmp_path)] == [2]
