"""What a model with a head says of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from umbel.data.labelled.batches import outputs_of
from umbel.data.labelled.examples import Examples
from umbel.data.tokenizers import Tokens
from umbel.model.bases import Bases
from umbel.ops.devices import autocast_to

Outputs = tuple[npt.NDArray[np.float32], ...]


def to_device(inputs: Mapping[str, npt.NDArray[Any]], device: torch.device) -> dict[str, Tensor | Bases]:
    """Give what a model with a head takes, on a device, from the inputs of a batch."""
    tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in inputs.items()}
    if "token_of_base" not in tensors:
        return dict(tensors)
    bases = Bases(tensors.pop("token_of_base"), tensors.pop("offset"))
    return tensors | {"bases": bases}


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
    """Give a model's outputs for examples, in their order; see :func:`umbel.data.labelled.batches.outputs_of`.

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
