"""Names of settings that have changed: a refused old name is answered with the new one."""

from __future__ import annotations

RENAMED: dict[str, str] = {
    "iak_epochs": "epochs",
    "iak_batch_size": "train_batch_size",
    "iak_learning_rate": "learning_rate",
    "iak_stopping_step": "stopping_step",
    "iak_valid_metric": "valid_metric",
    "iak_permute_domains": "control: permuted_domains",
    **{
        f"iak_{name}": f"kernel_args: {{{name}: ...}}"
        for name in ("layer", "combine", "stochastic", "prior", "bottleneck", "code_size", "budget")
    },
    **{
        f"iak_{name}": f"iak_args: {{{name}: ...}}"
        for name in (
            "base_share", "cold", "beta", "lambda_c", "lambda_kd", "schedule", "sampling", "least_steps", "warm_start",
        )
    },
    "history_mode": "history: item, positions or prompt",
    "text_form": "history: positions or prompt",
    "backbone_layers": "tower_args: {user_layers: ...}; 0 is control: no_body",
    "text_layers": "tower_args: {text_layers: ...}",
    "frozen_feature_layers": "tower_args: {feature_layers: [...]}",
    "user_tower": "control: small_reader",
    "body": "control: random_body",
    "item_features": "control: random_item_text",
    "lora_r": "adapter_args: {r: ...}",
    **{
        name: f"adapter_args: {{{name}: ...}}"
        for name in ("experts_per_group", "lora_alpha", "lora_dropout", "target_modules")
    },
    "item_text_fields": "item_args: {text_fields: [...]}",
    "max_item_tokens": "item_args: {max_tokens: ...}",
    "use_item_text": "item_args: {use_text: ...}",
    "use_item_id": "item_args: {use_id: ...}",
    **{name: f"item_args: {{{name}: ...}}" for name in ("id_scale", "refresh_interval")},
    "sr_form": "task_args: {SR: {form: ...}}",
    "sr_candidates": "task_args: {SR: {candidates: ...}}",
    "item_neighbours": "task_args: {I2I: {neighbours: ...}}",
    "neighbour_window": "task_args: {I2I: {window: ...}}",
    "max_generative_examples": 'task_args: {"*": {max_examples: ...}}',
    **{
        name: f'task_args: {{"*": {{{name}: ...}}}}' for name in ("history_titles", "hard_negatives", "negative_source")
    },
    "max_answer_tokens": "test_args: {max_answer_tokens: ...}",
    "generative_candidates": "test_args: {rank_titles: ...}",
    "answer_beams": "test_args: {beams: ...}",
    "bert_score_model": "test_args: {bert_score_model: ...}",
    "test_best": "test_args: {best_checkpoint: ...}",
    "embedding_batch": "batch_args: {embedding: ...}",
    "generative_batch": "batch_args: {generative: ...}",
    "contrastive_batch": "batch_args: {contrastive: ...}",
    "generative_pass_tokens": "batch_args: {pass_tokens: ...}",
    "gradient_accumulation": "batch_args: {accumulation: ...}",
    "gradient_cache_chunk": "batch_args: {cache_chunk: ...}",
    **{name: f"batch_args: {{{name}: ...}}" for name in ("sequence_targets", "generative_chunk")},
    **{f"s2sched_{name}": f"scheduler_args: {{{name}: ...}}" for name in ("history", "warmup", "tau")},
    **{f"probe_{name}": f"probe_args: {{{name}: ...}}" for name in ("interval", "size", "share")},
    **{
        name: f"loss_args: {{{name}: ...}}"
        for name in ("temperature", "pair_temperature", "full_softmax_items", "sampled_items")
    },
    **{f"merge_{name}": f"merge_args: {{{name}: ...}}" for name in ("last", "density", "sparsify")},
}  # fmt: skip
"""Old key -> how it is written now."""
