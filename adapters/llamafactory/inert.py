"""Which of LLaMA-Factory's arguments act under our plan; the others are refused, with the recipe field to use.

A key that is taken and does nothing is a setting that its user believes in. For 0.9.5, from its source and, where
that was not read, from what the keys are for: the rows come tokenized (`tokenized_path`), so that most of
hparams/data_args.py is never asked; only the stages of our methods run.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.native import NOT_KEPT, Beside, alone, beside
from recipes import Recipe

_TOKENIZED = "the rows come tokenized"
_SCORES = "the runner scores the run; use the recipe's eval"
_ONLY_TRAINS = "of generation, and only training runs here; use the recipe's"
_MACHINES = "the machines are the runner's; set N_GPUS, NNODES, NODE_RANK, MASTER_ADDR"

# Reason, and the keys it holds for.
_REASONS: tuple[tuple[str, str], ...] = (
    (f"{_TOKENIZED}; use the recipe's model.chat_template", "template"),
    (f"{_TOKENIZED}; use the recipe's model.chat_template_kwargs", "enable_thinking preserve_thinking"),
    (f"{_TOKENIZED}; use the recipe's data.train", "dataset dataset_dir tokenized_path"),
    (f"{_TOKENIZED}; use the recipe's data.train[].system", "default_system"),
    (f"{_TOKENIZED}; use the recipe's data.train[].max_samples", "max_samples"),
    (f"{_TOKENIZED}; use the recipe's data.train[].weight", "mix_strategy interleave_probs"),
    (f"{_TOKENIZED}; use the recipe's data.validation", "eval_dataset val_size eval_on_each_dataset"),
    (f"{_TOKENIZED}; use the recipe's data.max_length", "cutoff_len max_length"),
    (f"{_TOKENIZED}; use the recipe's data.train_on", "train_on_prompt mask_history"),
    (f"{_TOKENIZED}; use the recipe's data.packing", "packing neat_packing"),
    (f"{_TOKENIZED}, tool calls with the model's own template; use the recipe's model.chat_template", "tool_format"),
    (
        f"{_TOKENIZED}, once, by the runner: nothing is left to preprocess",
        "overwrite_cache preprocessing_batch_size preprocessing_num_workers data_shared_file_system",
    ),
    (f"{_TOKENIZED}, and lie whole on this machine: nothing is streamed", "streaming buffer_size"),
    (f"{_TOKENIZED}, with the ignored tokens marked", "ignore_pad_token_for_loss"),
    (f"{_TOKENIZED}, without a column of lengths: they are counted", "length_column_name"),
    (
        f"{_TOKENIZED}; use the recipe's model.add_tokens",
        "resize_vocab add_tokens add_special_tokens new_special_tokens_config init_special_tokens",
    ),
    (f"{_TOKENIZED} by the model's own tokenizer", "use_fast_tokenizer split_special_tokens"),
    (
        "rows are text only here: there is no media to read",
        "media_dir image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches video_max_pixels "
        "video_min_pixels video_fps video_maxlen use_audio_in_video audio_sampling_rate",
    ),
    (f"{_SCORES}.suites", "do_eval do_predict predict_with_generate sortish_sampler"),
    (f"{_SCORES}.loss_every", "eval_strategy eval_steps"),
    (f"{_SCORES}.patience", "early_stopping_steps"),
    (f"{_SCORES}.best_model", "load_best_model_at_end metric_for_best_model greater_is_better"),
    (
        f"{_ONLY_TRAINS} eval.max_new_tokens",
        "max_new_tokens generation_max_length generation_config generation_num_beams eval_num_beams",
    ),
    (
        f"{_ONLY_TRAINS} eval",
        "do_sample temperature top_p top_k num_beams repetition_penalty length_penalty skip_special_tokens "
        "use_kv_cache",
    ),
    (
        f"{_ONLY_TRAINS} eval.engine",
        "infer_backend vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config sglang_maxlen "
        "sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend",
    ),
    (
        "of its export, which does not run here: the run's model/ is made by the runner, merged by `recipe merge`",
        "export_dir export_size export_device export_quantization_bit export_quantization_dataset "
        "export_quantization_nsamples export_quantization_maxlen export_legacy_format export_hub_model_id",
    ),
    (
        "of PPO, which is no method here; use the recipe's method: grpo on backend: verl",
        "ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards reward_model reward_model_adapters "
        "reward_model_quantization_bit reward_model_type",
    ),
    (
        "of a tuning that recipes do not have; allowed as tuning.type: lora, full, freeze",
        "freeze_extra_modules module_dropout oft_rank oft_block_size oft_target",
    ),
    ("use the recipe's tuning.layers and modules", "freeze_trainable_layers freeze_trainable_modules"),
    (_MACHINES, "local_rank master_addr master_port ray_init_kwargs ray_num_workers use_cpu"),
    ("use the recipe's training.optimizer", "optim optim_args optim_target_modules use_muon"),
    ("use the recipe's training.betas", "adam_beta1 adam_beta2"),
    ("use the recipe's training.optimizer_options", "adam_epsilon"),
    ("a secret does not belong into a recipe; set HF_TOKEN", "hub_token hf_hub_token"),
    (
        "it would put the checkpoints there; `recipe push RUN HUB_ID` puts the model, with a card",
        "push_to_hub hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy",
    ),
    ("models come from Hugging Face's hub only; use the recipe's model.path", "ms_hub_token om_hub_token"),
    (
        "the adapter would be one of a changed base, and scoring, merging and serving load the base as it is; train "
        "on a merged model (`recipe merge`) instead",
        "create_new_adapter",
    ),
    ("use the recipe's tuning.init", "pissa_init pissa_convert pissa_iter"),
    ("models are kept where HF_HOME says; set that variable", "cache_dir"),
    ("use the recipe's training.micro_batch_size: auto", "auto_find_batch_size"),
    ("use the recipe's training.gradient_checkpointing", "gradient_checkpointing"),
    ("LLaMA-Factory passes over it; use_reentrant_gc acts", "gradient_checkpointing_kwargs"),
    ("LLaMA-Factory sets it to false itself", "remove_unused_columns"),
    ("use the recipe's training.precision", "pure_bf16 infer_dtype"),
    (
        "of another trainer, whose checkpoints and metrics the adapter does not read; use the recipe's distributed",
        "use_mca use_hyper_parallel hyper_parallel_args use_kt kt_expert_checkpoint_path kt_use_lora_experts "
        "kt_lora_expert_intermediate_size kt_lora_expert_num kt_weight_path",
    ),
    ("use the recipe's training.kernels", "use_liger_kernel liger_kernel_config"),
    ("use the recipe's training.warmup_steps", "warmup_steps"),
    ("transformers passes over it; set TENSORBOARD_LOGGING_DIR", "logging_dir"),
    ("a model that trains is not offloaded to files; use the recipe's distributed", "offload_folder"),
    ("of predictions, which no evaluation of its own makes", "prediction_loss_only"),
    ("use the recipe's tuning.quantization", "quantization_type double_quantization"),
    ("use the recipe's training.log_every", "logging_strategy"),
    ("use the recipe's checkpoint.every", "save_strategy"),
    ("a checkpoint is kept whole, so that a run can be resumed; use the recipe's checkpoint.keep", "save_only_model"),
    ("use the recipe's model.revision", "model_revision"),
    ("use the recipe's training.micro_batch_size", "per_device_eval_batch_size"),
    ("use the recipe's distributed.strategy", "deepspeed fsdp fsdp_config"),
    ("use the recipe's tuning", "lora_alpha lora_dropout lora_rank lora_target use_rslora use_dora quantization_bit"),
    (
        "use the recipe's logging",
        "use_swanlab swanlab_api_key swanlab_lark_secret swanlab_lark_webhook_url swanlab_logdir swanlab_mode "
        "swanlab_project swanlab_run_name swanlab_workspace trackio_bucket_id trackio_space_id "
        "trackio_static_space_id project",
    ),
    *((f"use the recipe's preference.{field}", key) for field, key in (
        ("beta", "pref_beta"), ("loss", "pref_loss"), ("label_smoothing", "dpo_label_smoothing"),
        ("sft_weight", "pref_ftx"), ("chosen_weight", "kto_chosen_weight"), ("rejected_weight", "kto_rejected_weight"),
        ("gamma", "simpo_gamma"),
    )),
)  # fmt: skip
INERT: Mapping[str, str] = {key: reason for reason, keys in _REASONS for key in keys.split()}

# Keys that act under some methods only: a stage of LLaMA-Factory's own trainers reads them.
OF_METHODS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("ref_model", "ref_model_adapters", "ref_model_quantization_bit"), ("dpo", "kto")),
    **dict.fromkeys(("compute_accuracy", "label_smoothing_factor"), ("sft", "pretrain")),
    **dict.fromkeys(
        ("use_dft_loss", "use_asft_loss", "asft_alpha", "use_eaft_loss", "eaft_alpha"), ("sft", "pretrain")
    ),
    **dict.fromkeys(("fp8", "average_tokens_across_devices"), ("sft", "pretrain")),
    "include_effective_tokens_per_second": ("sft", "pretrain", "dpo", "orpo", "simpo"),
    "pref_bco_weight": ("dpo",),
    "ld_alpha": ("dpo", "orpo"),
}
# Keys that are read of an adapter only.
OF_LORA = ("additional_target", "adapter_folder", "loraplus_lr_embedding", "loraplus_lr_ratio")
# Keys that change the model itself, which an adapter does not keep.
OF_MODEL = ("rope_scaling", "train_from_scratch", "mixture_of_depths")
BESIDE = (
    *(
        beside(keys, switch)
        for keys, switch in (
            ("apollo_.*", "use_apollo"), ("galore_.*", "use_galore"), ("badam_.*", "use_badam"),
            ("asft_alpha", "use_asft_loss"), ("eaft_alpha", "use_eaft_loss"), ("fp8_.*", "fp8"),
            ("profiler_.*|profile_modules", "enable_torch_profiler"),
        )
    ),
    Beside("ref_model_.*", "ref_model", lambda _, options: options.get("ref_model")),
    Beside("adapter_folder", "the recipe's model.adapter_path", lambda recipe, _: recipe.model.adapter_path),
    Beside("quantization_.*", "the recipe's tuning.quantization", lambda recipe, _: recipe.tuning.quantization),
    Beside("loraplus_.*", "the recipe's tuning.lora_plus_ratio", lambda recipe, _: recipe.tuning.lora_plus_ratio),
    Beside("torch_compile_.*", "the recipe's training.compile", lambda recipe, _: recipe.training.compile),
    Beside("run_name", "the recipe's logging", lambda recipe, _: recipe.logging),
    Beside(
        "use_(reentrant|unsloth)_gc",
        "the recipe's training.gradient_checkpointing",
        lambda recipe, _: recipe.training.gradient_checkpointing,
    ),
    Beside(
        "dataloader_(prefetch_factor|persistent_workers)",
        "the recipe's training.dataloader_workers",
        lambda recipe, _: recipe.training.dataloader_workers,
    ),
    Beside(
        "eval_.*|(bf16|fp16)_full_eval|batch_eval_metrics|include_for_metrics|compute_accuracy",
        "the recipe's eval.loss_every",
        lambda recipe, _: recipe.eval.loss_every,
    ),
)  # fmt: skip
# What older versions of transformers call them; names of our fields' kind are in recipes/hints.py.
RENAMED: Mapping[str, str] = {
    "group_by_length": "use the recipe's training.group_by_length",
}


def cannot_act(key: str, recipe: Recipe) -> str | None:
    """Why a key of `backend_options` would do nothing, or harm, in this recipe; None where it acts."""
    if key in INERT:
        return INERT[key]
    methods = OF_METHODS.get(key)
    if methods and recipe.method not in methods:
        return f"belongs to method: {' or '.join(methods)}, and the method is {recipe.method}"
    if key in OF_LORA and recipe.tuning.type != "lora":
        return f"belongs to tuning.type: lora, and the type is {recipe.tuning.type}"
    if key in OF_MODEL and recipe.tuning.type == "lora":
        return NOT_KEPT
    if key == "use_asft_loss" and recipe.tuning.type == "lora":
        return "LLaMA-Factory loads no reference model for it under LoRA, and ends; use tuning.type: full"
    if key == "use_llama_pro" and recipe.tuning.type == "full":
        return f"belongs to tuning.type: lora or freeze, and the type is {recipe.tuning.type}"
    return alone(key, recipe, recipe.backend_options, BESIDE)
