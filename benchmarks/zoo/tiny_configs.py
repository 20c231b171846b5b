"""Tiny Transformers configs for any model type: the config class's own defaults, with every size small."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LAYERS, HEADS, HEAD, VOCAB = 2, 4, 8, 320
WIDTH = HEADS * HEAD

_SAME = (
    (
        WIDTH,
        "hidden_size d_model n_embd dim emb_dim embedding_size input_embedding_size output_embedding_size d_embed "
        "word_embed_proj_dim pooler_hidden_size entity_emb_size xpath_unit_hidden_size d_latents "
        "pronunciation_embed_dim shape_embed_dim q_lora_rank prediction_head_size adapter_rank prompt_mid_dim "
        "true_hidden_size intra_bottleneck_size input_dim output_dim projection_dim",
    ),
    (
        2 * WIDTH,
        "intermediate_size d_ff d_inner encoder_ffn_dim decoder_ffn_dim ffn_dim hidden_dim n_inner ffn_hidden_size "
        "feed_forward_size moe_intermediate_size shared_expert_intermediate_size",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
        "num_self_attention_heads num_cross_attention_heads num_landmarks linear_num_value_heads "
        "index_n_heads n_mamba_heads num_query_groups num_local_experts n_routed_experts num_experts "
        "num_key_value_heads num_kv_heads attention_groups block_sizes",
    ),
    (
        HEAD,
        "head_dim d_kv d_head kv_channels v_head_dim qk_nope_head_dim qk_rope_head_dim attention_head_size rotary_dim "
        "linear_key_head_dim linear_value_head_dim mamba_d_state mamba_dt_rank index_head_dim gated_norm_rank",
    ),
    (2 * HEAD, "kv_lora_rank query_pre_attn_scalar mamba_headdim num_latents chunk_size"),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
        "num_self_attends_per_block linear_num_key_heads num_experts_per_tok n_group topk_group max_window_layers "
        "moe_topk index_topk num_global_layers n_shared_experts hc_mult",
    ),
    (
        16,
        "image_size mm_tokens_per_image local_attn_chunk_length lsh_attn_chunk_length segment_means_seq_len "
        "prompt_length local_attention sliding_window window_size attention_window block_size keep_window_size",
    ),
    (
        64,
        "vision_vocab_size entity_vocab_size pronunciation_vocab_size shape_vocab_size max_xpath_tag_unit_embeddings "
        "max_xpath_subs_unit_embeddings patch_size input_size",
    ),
    (
        128,
        "max_position_embeddings n_positions max_seq_len n_ctx max_source_positions max_target_positions "
        "max_2d_position_embeddings original_max_position_embeddings",
    ),
    (VOCAB, "vocab_size"),
    (1, "first_k_dense_replace mem_len"),
)
TINY = {name: size for size, names in _SAME for name in names.split()}
"""The largest value of a field; what is smaller by default stays."""

TOKENS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def tiny_config(model_type: str, **fields: Any) -> PreTrainedConfig:
    """Return a tiny config of a model type; ``fields`` replace what is chosen here."""
    cls = CONFIG_MAPPING[model_type]
    return cls(**{**_fields(cls), **OVERRIDES.get(model_type, {}), **fields})


def _fields(cls: type[PreTrainedConfig]) -> dict[str, Any]:
    default = cls()
    known = inspect.signature(cls).parameters
    fields = {name: _smaller(name, getattr(default, name, None)) for name in TINY if name in known}
    fields = {name: value for name, value in fields.items() if value is not None}
    for name in getattr(cls, "sub_configs", {}):
        if isinstance(getattr(default, name, None), PreTrainedConfig):
            sub = type(getattr(default, name))
            fields[name] = sub(**{**_fields(sub), **OVERRIDES.get(sub.model_type, {})})
    kinds = _kinds(default, known)
    depth = max([LAYERS, *map(len, kinds.values())])
    for name in _DEPTHS.intersection(fields):
        fields[name] = depth
    fields |= {name: (values * depth)[:depth] for name, values in kinds.items()}
    return fields | {name: value for name, value in TOKENS.items() if name in known}


_NEEDED = {
    "num_key_value_heads",
    "head_dim",
    "num_experts_per_tok",
    "vocab_size",
}  # None by default, and not every class fills them in
_DEPTHS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers"}


def _smaller(name: str, value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return min(value, TINY[name])
    return TINY[name] if value is None and name in _NEEDED else None


def _kinds(default: PreTrainedConfig, known: Any) -> dict[str, list[Any]]:
    """Return the fields that hold one entry per layer, cut to one layer of every kind."""
    depth = getattr(default, "num_hidden_layers", None)
    lists = {name: getattr(default, name, None) for name in known}
    return {
        k: list(dict.fromkeys(v)) for k, v in lists.items() if isinstance(v, (list, tuple)) and len(v) == depth and v
    }


OVERRIDES: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32, "patch_size": 16},
    "markuplm": {"tag_pad_id": 60, "subs_pad_id": 60},
    "big_bird": {"block_size": 2, "num_random_blocks": 1},  # 16 tokens are then enough for block-sparse attention
    "bigbird_pegasus": {"block_size": 2, "num_random_blocks": 1},
    "bros": {"hidden_size": 64},
    "lilt": {"hidden_size": 48},
    "nystromformer": {"num_landmarks": 16},  # as many as segment_means_seq_len, as in its own defaults
    "reformer": {"axial_pos_shape": [4, 4], "axial_pos_embds_dim": [8, 24], "attn_layers": ["local", "lsh"]},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention", "hybrid"],
        "num_hidden_layers": 5,
    },
}
