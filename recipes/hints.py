"""What other programs call our fields: who comes with their words is told ours, before any likeness of letters.

Names of LLaMA-Factory, transformers and TRL, Axolotl, and verl.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recipes.errors import did_you_mean

# Our field (with a value, where the name stands for one), and what others call it.
_NAMES: tuple[tuple[str, str], ...] = (
    ("name", "run_name experiment_name"),
    ("method", "stage rl trainer_type"),
    ("model.path", "model_name_or_path base_model model_name model_id partial_pretrain"),
    ("model.revision", "model_revision"),
    ("model.tokenizer", "tokenizer_name tokenizer_path tokenizer_name_or_path"),
    ("model.add_tokens", "resize_vocab add_special_tokens new_tokens added_tokens new_special_tokens_config"),
    ("model.chat_template", "template chat_template_path chat_template_jinja custom_chat_template"),
    ("model.chat_template_kwargs", "enable_thinking apply_chat_template_kwargs"),
    ("model.attention", "flash_attn attn_implementation use_flash_attention_2 flash_attention sdp_attention"),
    ("tuning.type", "finetuning_type adapter use_lora use_peft lora peft full_finetuning"),
    ("tuning.quantization: 4bit", "qlora use_qlora load_in_4bit quantization_bit"),
    ("tuning.quantization: 8bit", "load_in_8bit"),
    ("tuning.rank", "lora_r lora_rank r"),
    ("tuning.alpha", "lora_alpha"),
    ("tuning.dropout", "lora_dropout"),
    ("tuning.target_modules", "lora_target lora_target_modules lora_target_linear"),
    ("tuning.rslora", "use_rslora"),
    ("tuning.dora", "use_dora"),
    ("data.train", "dataset datasets dataset_name dataset_path dataset_dir train_file train_files data_path"),
    ("data.train[].subset", "dataset_config_name dataset_config"),
    ("data.train[].split", "dataset_split dataset_train_split train_split"),
    ("data.train[].max_samples", "max_train_samples train_max_samples num_samples"),
    ("data.train[].weight", "interleave_probs probabilities sampling_weight mixture_weight dataset_weight"),
    ("data.train[].columns", "dataset_text_field field_messages messages_key prompt_key response_key"),
    ("data.train[].format", "dataset_format formatting"),
    ("data.train[].system", "default_system system_prompt"),
    ("data.train[].delimiter", "sep separator csv_delimiter"),
    ("data.train[].encoding", "charset file_encoding"),
    ("data.train[].text", "sample_by"),
    ("data.train[].path", "data_files data_file"),
    ("data.validation.fraction", "val_size val_set_size validation_split test_size"),
    ("data.validation.sources", "eval_dataset test_datasets val_files validation_file"),
    ("data.max_length", "cutoff_len max_seq_length max_seq_len model_max_length sequence_len block_size"),
    ("data.overlong", "truncation excess_length_strategy"),
    ("data.train_on", "train_on_inputs train_on_prompt mask_history completion_only_loss assistant_only_loss"),
    ("data.packing", "neat_packing sample_packing"),
    ("data.seed", "data_seed"),
    ("training.epochs", "num_train_epochs num_epochs total_epochs"),
    ("training.max_steps", "total_training_steps num_steps max_train_steps"),
    (
        "training.global_batch_size, of all devices and accumulated steps together",
        "batch_size train_batch_size gradient_accumulation_steps grad_accum gradient_accumulation total_batch_size",
    ),
    ("training.micro_batch_size: auto", "auto_find_batch_size find_batch_size"),
    ("training.micro_batch_size", "per_device_train_batch_size micro_batch_size_per_gpu ppo_micro_batch_size_per_gpu"),
    ("training.learning_rate", "lr peak_lr"),
    ("training.scheduler", "lr_scheduler_type lr_scheduler lr_decay_style"),
    ("training.warmup_ratio", "lr_warmup_steps_ratio"),
    ("training.warmup_steps", "lr_warmup_steps num_warmup_steps"),
    ("training.betas", "adam_beta1 adam_beta2"),
    ("training.optimizer_options.eps", "adam_epsilon adam_eps optimizer_eps"),
    ("training.max_grad_norm", "gradient_clipping gradient_clip_val grad_clip clip_grad"),
    ("training.precision", "bf16 fp16 mixed_precision torch_dtype dtype pure_bf16"),
    (
        "training.gradient_checkpointing",
        "use_gradient_checkpointing enable_gradient_checkpointing activation_checkpointing",
    ),
    ("training.optimizer", "optim optimizer_type use_muon"),
    ("training.kernels", "enable_liger_kernel use_liger use_liger_kernel liger_kernel"),
    ("training.compile", "torch_compile use_torch_compile"),
    ("training.dataloader_workers", "dataloader_num_workers"),
    ("training.group_by_length", "train_sampling_strategy length_grouped_sampling"),
    ("training.neftune_alpha", "neftune_noise_alpha"),
    ("tuning.lora_plus_ratio", "loraplus_lr_ratio"),
    ("tuning.init", "init_lora_weights pissa_init lora_init peft_init_lora_weights"),
    ("tuning.modules_to_save", "additional_target lora_modules_to_save"),
    ("training.log_every", "logging_steps log_interval"),
    ("training.seed", "random_seed random_state"),
    ("preference.beta", "pref_beta dpo_beta orpo_alpha rl_beta"),
    ("preference.loss", "pref_loss loss_type"),
    ("preference.label_smoothing", "dpo_label_smoothing"),
    ("preference.sft_weight", "pref_ftx rpo_alpha"),
    ("preference.chosen_weight", "kto_chosen_weight desirable_weight kto_desirable_weight"),
    ("preference.rejected_weight", "kto_rejected_weight undesirable_weight kto_undesirable_weight"),
    ("grpo.rollouts.n", "num_generations rollout_n"),
    ("grpo.rollouts.max_reply_length", "max_response_length max_completion_length"),
    ("grpo.rollouts.gpu_memory_utilization", "vllm_gpu_memory_utilization"),
    ("grpo.mini_batch_size", "ppo_mini_batch_size"),
    ("grpo.kl_coef", "kl_loss_coef"),
    ("grpo.clip_ratio", "cliprange"),
    ("grpo.rewards", "reward_funcs reward_model custom_reward_function"),
    ("distributed.strategy", "deepspeed fsdp fsdp_config"),
    ("distributed.tensor_parallel", "tensor_model_parallel_size tensor_parallel_size"),
    ("distributed.pipeline_parallel", "pipeline_model_parallel_size"),
    ("distributed.sequence_parallel", "ulysses_sequence_parallel_size sequence_parallel_degree context_parallel_size"),
    ("distributed.expert_parallel", "expert_model_parallel_size"),
    ("distributed.remove_padding", "use_remove_padding padding_free"),
    ("distributed.max_tokens_per_device", "max_token_len_per_gpu ppo_max_token_len_per_gpu use_dynamic_bsz"),
    ("distributed.offload_parameters", "param_offload cpu_offload"),
    ("distributed.offload_optimizer", "optimizer_offload"),
    ("checkpoint.every", "save_steps save_freq save_strategy saves_per_epoch"),
    ("checkpoint.keep", "save_total_limit max_ckpt_to_keep max_actor_ckpt_to_keep"),
    ("eval.loss_every", "eval_steps eval_strategy evaluation_strategy test_freq evals_per_epoch"),
    ("eval.patience", "early_stopping_patience early_stopping_steps"),
    ("eval.best_model", "load_best_model_at_end metric_for_best_model"),
    ("eval.max_new_tokens", "generation_max_length"),
    ("eval.max_thought_tokens", "thinking_budget thinking_token_budget max_thinking_tokens"),
    ("eval.max_samples", "max_eval_samples val_max_samples"),
    ("logging", "report_to logger use_wandb wandb wandb_project use_swanlab"),
)
_MACHINES = "the machines are variables, N_GPUS, NNODES, NODE_RANK, MASTER_ADDR, or those of `launch`"
_RESUME = "`recipe resume RUN` goes on with a run"
_PLACE = "a run's directory is --runs-dir and --name of `recipe run`"
HINTS: Mapping[str, str] = {
    **{name: f"here it is {field}" for field, names in _NAMES for name in names.split()},
    **dict.fromkeys(("resume_from_checkpoint", "auto_resume_from_checkpoints", "resume_mode"), _RESUME),
    **dict.fromkeys(("output_dir", "default_local_dir"), _PLACE),
    **dict.fromkeys(("n_gpus_per_node", "num_gpus", "nnodes"), _MACHINES),
    **dict.fromkeys(("preprocessing_num_workers", "dataset_num_proc"), "nothing to set: the runner prepares the rows"),
    "<<": "merge keys of YAML are not read; write the fields out",
}


def hint(key: str, allowed: Iterable[str], fields: Iterable[str]) -> str:
    """What to write in the place of an unknown field, as the end of a sentence; empty where nothing is near.

    Args:
        key: the unknown name.
        allowed: the names that may stand where it stands.
        fields: the dotted names of all fields of a recipe.
    """
    word = key.lower().replace("-", "_")
    if word in HINTS:
        return f"; {HINTS[word]}"
    # The right name at another place; of a source of rows, the one that is trained on.
    own = [field for field in fields if field.rpartition(".")[2] == word and ".sources[]" not in field]
    return f"; here it is {' or '.join(own)}" if own else did_you_mean(key, allowed)
