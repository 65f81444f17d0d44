"""Renamed keys: ours, and RecBole's that version 1.2.1 no longer reads."""

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
"""Old key of ours -> how it is written now. RecBole has models that read a key of the same name (temperature)."""

_SPLIT = 'eval_args: {split: {RS: [0.8, 0.1, 0.1]}, order: RO or TO, group_by: user, mode: full}'  # fmt: skip

OF_OLDER_RECBOLE: dict[str, str] = {
    "neg_sampling": "train_neg_sample_args: {distribution: uniform, sample_num: 1}",
    "training_neg_sample_num": "train_neg_sample_args: {distribution: uniform, sample_num: ...}",
    "training_neg_sample_distribution": "train_neg_sample_args: {distribution: ..., sample_num: 1}",
    "eval_setting": _SPLIT,
    "split_ratio": _SPLIT,
    "group_by_user": "eval_args: {group_by: user}",
    "leave_one_num": "eval_args: {split: {LS: valid_and_test}}",
    "eval_neg_sample_args": "eval_args: {mode: uni100} (or pop100, full)",
    "min_user_inter_num": 'user_inter_num_interval: "[N,inf)"',
    "max_user_inter_num": 'user_inter_num_interval: "[0,N]"',
    "min_item_inter_num": 'item_inter_num_interval: "[N,inf)"',
    "max_item_inter_num": 'item_inter_num_interval: "[0,N]"',
    "lowest_val": 'val_interval: {rating: "[N,inf)"}',
    "highest_val": 'val_interval: {rating: "(-inf,N]"}',
    "equal_val": 'val_interval: {rating: "[N,N]"}',
    "not_equal_val": 'val_interval: {rating: "(-inf,N);(N,inf)"}',
    "fields_in_same_space": "alias_of_user_id, alias_of_item_id, alias_of_entity_id or alias_of_relation_id",
    "drop_filter_field": "nothing (leave it out)",
    "drop_preload_weight": "nothing (leave it out)",
    "real_time_process": "nothing (leave it out)",
}
"""Key of an older RecBole, silently ignored by RecBole 1.2.1 -> how it is written now."""


def renamed(key: str) -> str:
    """Return how a former key is written today, as the end of an error message; "" if the key is not a former one."""
    if key in RENAMED:
        return f"renamed; write {RENAMED[key]}"
    if key in OF_OLDER_RECBOLE:
        return f"a key of an older RecBole, not read by 1.2.1; write {OF_OLDER_RECBOLE[key]}"
    return ""
