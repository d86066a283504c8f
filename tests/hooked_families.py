"""Tiny mixture-of-experts models of every family of Hugging Face that a CPU builds in a moment, and what they ran."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

E, K = 8, 3
VOCABULARY = 96

# What families call the same thing; each takes those that its configuration has.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), E),
    **dict.fromkeys(("num_experts_per_tok", "top_k_experts", "moe_k", "moe_topk"), K),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("hidden_size", "d_model"), 32),
    **dict.fromkeys(("intermediate_size", "intermediate_size_mlp", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 40),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_heads", "mamba_n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_key_value_heads", "n_group", "linear_num_key_heads", "index_n_heads"), 2),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "d_kv", "kv_channels"), 8),
    **dict.fromkeys(("mamba_d_state", "mamba_num_heads", "linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("index_topk", "per_layer_input_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "mamba_d_head", "index_head_dim", "sliding_window"), 16),
    **dict.fromkeys(("topk_group", "first_k_dense_replace", "num_dense_layers", "mamba_n_groups"), 1),
    **dict.fromkeys(("decoder_sparse_step", "interleave_moe_layer_step", "encoder_sparse_step"), 1),
    **dict.fromkeys(("num_sparse_encoder_layers", "num_sparse_decoder_layers"), 1),
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "linear_num_value_heads": 4,
    "mlp_only_layers": [],
    "enable_moe_block": True,
    "expert_capacity": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN: dict[str, dict[str, Any]] = {
    "dbrx": {
        "n_heads": 4,
        "n_layers": 3,
        "max_seq_len": 64,
        "rope_theta": 1e4,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": E, "moe_top_k": K, "hidden_size": 32},
    },
    "deepseek_v4": {"head_dim": 16},
    "doge": {"is_moe": True, "num_experts": 16},
    "ernie4_5_moe": {"moe_num_shared_experts": 2},
    "gemma4_text": {
        "global_head_dim": 8,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
    "glm4v_moe_text": {
        "rope_parameters": {"rope_theta": 1e4, "mrope_section": [1, 1, 2], "partial_rotary_factor": 1.0}
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "longcat_flash": {"zero_expert_num": 4, "expert_ffn_hidden_size": 24, "ffn_hidden_size": 40, "head_dim": 8},
    "zaya": {"num_experts_per_tok": 1},
}
# fmt: off
DEFAULT = [
    "afmoe", "dbrx", "deepseek_v2", "deepseek_v3", "doge", "dots1", "ernie4_5_moe", "flex_olmo", "gemma4_text",
    "glm4_moe", "gpt_oss", "granitemoe", "granitemoeshared", "jamba", "jetmoe", "lfm2_moe", "llama4_text", "minimax",
    "mixtral", "nemotron_h", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3_next", "switch_transformers", "zaya",
]
LONG_TAIL = [
    "aria_text", "axk1", "axk2", "bailing_hybrid", "beam", "cohere2_moe", "deepseek_v32", "exaone_moe", "flint",
    "glm4_moe_lite", "glm4v_moe_text", "glm_moe_dsa", "granitemoe_swa", "granitemoehybrid", "hunyuan_v1_moe", "hy_v3",
    "hy_v4", "inkling2_text", "inkling_text", "kolibri1", "laguna", "longcat_flash", "mellum", "mimo_v2_flash",
    "minimax_m2", "minimax_m3_vl_text", "mistral4", "mistral_large4_text", "openai_privacy_filter",
    "qwen3_5_moe_text", "qwen3_vl_moe_text", "solar_open",
]
# fmt: on


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words w4 to w95 as tokens 4 to 95, with a start and an end that are the tokenizer's own."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **{f"w{i}": i for i in range(4, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def words(n: int, seed: int = 0) -> str:
    return " ".join(f"w{i}" for i in np.random.default_rng(seed).integers(4, VOCABULARY, n))


def tiny_config(family: str, **changes: Any) -> Any:
    kind = CONFIG_MAPPING[family]
    told = set(getattr(kind, "__dataclass_fields__", {})) | set(getattr(kind, "attribute_map", {}))
    values = {key: value for key, value in SMALL.items() if key in told}
    if "qk_rope_head_dim" in values:
        # Attention with a latent has as many keys as queries, and sets the other itself.
        values.pop("head_dim", None)
        values["num_key_value_heads"] = values["num_attention_heads"]
    return kind(**{**values, **OWN.get(family, {}), **changes})


def tiny_model(family: str, **changes: Any) -> nn.Module:
    """A model with random weights, large enough for its routers to differ from token to token."""
    return randomised(AutoModel.from_config(tiny_config(family, **changes)), family)


def randomised(model: nn.Module, seed: str) -> nn.Module:
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if any(part in name for part in ("correction_bias", "expert_bias", "balancing_biases")):
                tensor.normal_(0, 0.2, generator=generator)
            elif name.endswith("per_expert_scale"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.ndim >= 2 and tensor.is_floating_point():
                tensor.normal_(0, tensor.shape[-1] ** -0.5, generator=generator)
            elif name.endswith("tid2eid"):
                # Which experts a token id takes, whatever its state.
                rows = torch.rand(len(tensor), E, generator=generator).argsort(1)
                tensor.copy_(rows[:, : tensor.shape[1]])
            elif name.endswith(".bias"):
                tensor.normal_(0, 0.1, generator=generator)
    return model.eval()


@dataclass
class Seen:
    """A block as it was called in one pass, and what its experts were given."""

    runner: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: torch.Tensor


def tokens_that_changed(model: Any, text: str) -> tuple[Any, list[np.ndarray]]:
    """Route one text, then tell which experts each token took without asking any router: one expert after another is
    set to zero, the block runs again, and the tokens whose output moves are those that took it.

    Gives the routed sequence, and for each site a bool ``(T, E)``.
    """
    seen: dict[str, Seen] = {}
    modules = dict(model._model.named_modules())
    handles, runners = [], []
    for router in model._probe.routers:
        runner = router.found.module if hasattr(router.found.module, "up_embed") else router.found.block
        if hasattr(runner, "map") and hasattr(runner, "reduce"):
            # Attention by experts has no forward of its own.
            runner = modules[router.found.name.rsplit(".", 2)[0]]

        def keep(module, args, kwargs, output, key=router.found.name):
            seen[key] = Seen(module, args, kwargs, _first(output).clone())

        handles.append(runner.register_forward_hook(keep, with_kwargs=True))
        runners.append(runner)
    (routed,) = model.route([text])
    for handle in handles:
        handle.remove()
    found = []
    for router, runner in zip(model._probe.routers, runners, strict=True):
        call, n = seen[router.found.name], router.site.n_experts
        changed = np.zeros((len(routed.tokens), n), bool)
        for e in range(n):
            with torch.inference_mode(), _silenced(router.found, e, n):
                moved = (_first(runner(*call.args, **call.kwargs)) - call.output).view(len(changed), -1)
            changed[:, e] = (moved.abs().amax(1) > 1e-6 * call.output.abs().max()).numpy()
        found.append(changed)
    return routed, found


def _first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else _first(output[0])


class _silenced:  # noqa: N801
    """Set one expert's weights to zero while a block runs."""

    def __init__(self, found: Any, e: int, n: int):
        self.tensors = list(_parts(found, e, n))
        assert self.tensors

    def __enter__(self) -> None:
        self.before = [tensor.clone() for tensor in self.tensors]
        for tensor in self.tensors:
            tensor.zero_()

    def __exit__(self, *error: Any) -> None:
        for tensor, before in zip(self.tensors, self.before, strict=True):
            tensor.copy_(before)


def _parts(found: Any, e: int, n: int):
    if hasattr(found.module, "up_embed"):
        yield found.module.up_embed.weight.data[e]
        return
    for name, child in found.block.named_children():
        if child is found.module:
            continue
        each = [x for x in child.children() if any(True for _ in x.parameters())]
        if isinstance(child, nn.ModuleList | nn.ModuleDict) and len(each) == n:
            yield from (parameter.data for parameter in each[e].parameters())
        for parameter in child.parameters():
            if parameter.ndim == 3 and parameter.shape[0] == n:
                yield parameter.data[e]
        if name == "experts" and hasattr(child, "mlp"):
            yield from (parameter.data.view(n, -1)[e] for parameter in child.mlp.parameters())
