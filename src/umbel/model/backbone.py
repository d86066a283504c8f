"""One backbone for every architecture: a pattern string such as ``"Md Me"``, tiled over depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.errors import ShapeError
from umbel.model import inference
from umbel.model.attention import Attention
from umbel.model.bimamba import BiMamba
from umbel.model.effective_weights import weight_of
from umbel.model.hyena import HyenaLite
from umbel.model.layers import SwiGLU, scaled_kaiming_
from umbel.model.moe import MoE
from umbel.model.routing import Routing
from umbel.model.segments import Segments, find_segments
from umbel.ops.rms_norm import add_rms_norm

PAD_ID = 4
_MIXERS: dict[str, type[BiMamba] | type[HyenaLite] | type[Attention]] = {"M": BiMamba, "H": HyenaLite, "A": Attention}


@dataclass(frozen=True)
class Output:
    """What a backbone gives.

    Attributes
    ----------
    hidden
        ``(B, L, D)``, after the final norm; of a pass that stopped early, the residual stream there.
    routings
        One :class:`~umbel.model.routing.Routing` per expert layer, in order of depth.
    stream
        Where asked for: the residual stream after the embedding and after each layer, ``n_layers + 1``
        tensors ``(B, L, D)``; the last one is ``hidden`` before the final norm.
    """

    hidden: Tensor
    routings: tuple[Routing, ...]
    stream: tuple[Tensor, ...] = ()


class Block(nn.Module):
    """A mixer and an FFN, each behind its own RMSNorm and added to the residual stream.

    Attributes
    ----------
    has_experts
        ``ffn`` gives a routing too. It need not be a :class:`~umbel.model.moe.MoE`: an adapter may stand around it.
    training_way
        None, or how a pass with gradients gets what :meth:`compute` gives: a function of the block and the inputs;
        see :mod:`umbel.model.recomputation`.
    """

    def __init__(self, config: ModelConfig, kind: str, layer: int):
        super().__init__()
        self.residual_fp32, self.eps = config.residual_fp32, config.norm_eps
        self.mixer_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.mixer = _MIXERS[kind[0]](config)
        self.ffn_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.has_experts = kind[1] == "e"
        self.ffn = MoE(config, layer) if self.has_experts else SwiGLU(config.d_model, config.ffn_hidden)
        self.training_way: Callable[..., tuple[Tensor, Tensor, Routing | None]] | None = None

    def forward(
        self,
        stream: Tensor | None,
        branch: Tensor,
        spans: Tensor | None,
        real: Tensor | None,
        segments: Segments | None = None,
    ) -> tuple[Tensor, Tensor, Routing | None]:
        """Take the stream (B, L, D) and the branch yet to be added; give the same two after this block.

        Addition waits for the next norm, which does both in one pass; the first block gets no stream.
        """
        if self.training_way is not None and torch.is_grad_enabled():
            return self.training_way(self, stream, branch, spans, real, segments)
        return self.compute(stream, branch, spans, real, segments)

    def compute(
        self,
        stream: Tensor | None,
        branch: Tensor,
        spans: Tensor | None,
        real: Tensor | None,
        segments: Segments | None,
    ) -> tuple[Tensor, Tensor, Routing | None]:
        """Do the work of :meth:`forward`."""
        if segments is None:
            return self.around(lambda x: self.mixer(x, spans), stream, branch, real)
        return self.around(
            lambda x: segments.together(self.mixer(segments.alone(x), segments.spans)), stream, branch, real
        )

    def around(
        self, mix: Callable[[Tensor], Tensor], stream: Tensor | None, branch: Tensor, real: Tensor | None
    ) -> tuple[Tensor, Tensor, Routing | None]:
        """Do what :meth:`forward` does, with ``mix`` in the mixer's place: a part of a stream has its own way."""
        if self.residual_fp32 and stream is None:
            branch = branch.float()
        x, stream = add_rms_norm(branch, stream, weight_of(self.mixer_norm, "mixer_norm"), self.eps)
        x, stream = add_rms_norm(mix(x), stream, weight_of(self.ffn_norm, "ffn_norm"), self.eps)
        if self.has_experts:
            x, routing = self.ffn(x, real)
            return stream, x, routing
        return stream, self.ffn(x), None


def real_tokens(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
    """Mark what is not padding, ``(B, L)`` bool, or None when nothing is padding.

    Padding is every ``[PAD]`` and everything that ``attention_mask`` leaves out. Each row's real tokens
    must stand together: a hole in the middle would have no defined neighbour.

    Raises
    ------
    ValueError
        If the mask's shape differs from the ids', or a row's real tokens have a gap.
    """
    real = input_ids != PAD_ID
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask is {tuple(attention_mask.shape)} and input_ids {tuple(input_ids.shape)}: "
                "they must have one shape"
            )
        real = real & attention_mask.bool()
    if bool(real.all()):
        return None
    starts = (real[:, 1:] & ~real[:, :-1]).sum(1) + real[:, 0]
    if bool((starts > 1).any()):
        row = int((starts > 1).nonzero()[0, 0])
        raise ValueError(f"row {row}: padding stands between real tokens; pad on the left or on the right only")
    return real


def spans_of(real: Tensor) -> Tensor:
    """Turn a mask (B, L) whose True stand together in each row into ``(B, 2)`` starts and stops.

    Examples
    --------
    >>> spans_of(torch.tensor([[False, True, True, False]])).tolist()
    [[1, 3]]
    """
    start = real.int().argmax(1)
    return torch.stack([start, start + real.sum(1)], 1)


class Backbone(nn.Module):
    """Token ids in, hidden states and routings out.

    Results at real tokens do not depend on padding (side or length), on batch-mates, or on other sequences in the row.

    Examples
    --------
    >>> config = ModelConfig(n_layers=2, d_model=8, ffn_hidden=16)
    >>> output = Backbone(config)(torch.tensor([[0, 7, 8, 9, 10, 1]]))
    >>> output.hidden.shape, len(output.routings)
    (torch.Size([1, 6, 8]), 1)
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config, kind, i) for i, kind in enumerate(config.layer_kinds))
        self.norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embedding, and scale the residual branches' outputs as ``config.rescale`` says."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        mixer_branches = {"none": 1, "out_proj": self.config.n_layers, "all": 2 * self.config.n_layers}
        for block in cast(list[Block], list(self.layers)):
            branches = mixer_branches[self.config.rescale]
            scaled_kaiming_(block.mixer.out_proj.weight, branches)
            if isinstance(block.mixer, BiMamba) and not self.config.tie_projections:
                scaled_kaiming_(block.mixer.out_proj_backward.weight, branches)
            if self.config.rescale == "all":
                down = block.ffn.down if isinstance(block.ffn, MoE) else block.ffn.down.weight
                scaled_kaiming_(down, branches)
                if isinstance(block.ffn, MoE) and block.ffn.shared is not None:
                    scaled_kaiming_(block.ffn.shared.down.weight, branches)

    def _require_length(self, length: int) -> None:
        config = self.config
        if config.max_tokens and length > config.max_tokens and any(kind[0] == "A" for kind in config.layer_kinds):
            raise ShapeError(
                f"a sequence of {length:,} tokens, and this model's attention takes at most {config.max_tokens:,} in "
                "one pass (max_tokens): cut it into windows, or stream it with umbel scan"
            )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        *,
        keep_stream: bool = False,
        n_layers: int | None = None,
    ) -> Output:
        """Run the network; without gradients on a CPU, the way of :mod:`umbel.model.inference`.

        Parameters
        ----------
        input_ids
            ``(B, L)`` int64 token ids.
        attention_mask
            ``(B, L)``, 0 or False at padding; ``[PAD]`` ids are padding with or without it.
        segment_ids
            ``(B, L)`` integers where several sequences share a row: neighbours with one id are one sequence, and
            each gets what it would get alone. None: every row is one sequence.
        keep_stream
            Also return the residual stream after every layer.
        n_layers
            Stop after so many layers, 1 or more: ``hidden`` is then the residual stream there, which no norm has seen.

        Raises
        ------
        ShapeError
            If a sequence is longer than the model's attention takes (``max_tokens``).
        """
        real = real_tokens(input_ids, attention_mask)
        segments = None if segment_ids is None else find_segments(segment_ids, real)
        self._require_length(input_ids.shape[1] if segments is None else segments.places.shape[1])
        spans = None if real is None else spans_of(real)
        if segments is None and inference.is_possible(self):
            hidden, found, streams = inference.run(self, input_ids, spans, keep_stream=keep_stream, n_layers=n_layers)
            return Output(hidden, found, streams)
        stream, branch = None, self.embedding(input_ids)
        kept, routings = [branch], []
        for block in list(self.layers)[:n_layers]:
            stream, branch, routing = block(stream, branch, spans, real, segments)
            if routing is not None:
                routings.append(routing)
            if keep_stream:
                kept.append(stream + branch)
        if n_layers is not None:
            assert stream is not None
            return Output(stream + branch, tuple(routings), tuple(kept) if keep_stream else ())
        hidden, _ = add_rms_norm(branch, stream, weight_of(self.norm, "norm"), self.config.norm_eps)
        return Output(hidden, tuple(routings), tuple(kept) if keep_stream else ())


def count_parameters(config: ModelConfig) -> tuple[int, int]:
    """Count a backbone's parameters: all of them, and those active for one token.

    The tied head adds nothing; an untied one adds ``vocab_size * d_model`` to both.

    Examples
    --------
    >>> count_parameters(ModelConfig())
    (115612160, 63707648)
    """
    with torch.device("meta"):
        backbone = Backbone(config)
    total = sum(p.numel() for p in backbone.parameters())
    head = 0 if config.tie_head else config.vocab_size * config.d_model
    per_expert = 3 * config.expert_width * config.d_model
    idle = sum(kind[1] == "e" for kind in config.layer_kinds) * (config.n_experts - config.top_k) * per_expert
    return total + head, total + head - idle
