"""What a model with a head says of examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.outputs import outputs_of
from umbel.data.tokenizers import Tokens
from umbel.model.bases import to_device
from umbel.ops.devices import autocast_to

Outputs = tuple[npt.NDArray[np.float32], ...]


def say_outputs(
    model: nn.Module,
    tokens: Tokens,
    examples: Examples,
    *,
    stranded: bool,
    budget: int = 16_384,
    dtype: torch.dtype | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Outputs:
    """Give a model's outputs for examples, in their order; see :func:`umbel.data.labelled.outputs.outputs_of`.

    Parameters
    ----------
    model
        With a head, on its device; it is left in ``eval`` mode.
    stranded
        Take the strand as given; otherwise the outputs of both strands are averaged.
    """
    model.eval()
    device = next(model.parameters()).device

    @torch.inference_mode()
    def run(inputs: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        with autocast_to(device, dtype):
            return model(**to_device(inputs, device)).logits.float().cpu().numpy()

    return outputs_of(examples, tokens, run, both_strands=not stranded, budget=budget, advance=advance)
