"""A model spread over the processes of a run: who holds which weights, and how gradients come together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from umbel.config import ParallelConfig
from umbel.model.expert_exchange import add_expert_gradients, as_dtensors, expert_mesh, spread_experts
from umbel.model.hf import UmbelForMaskedLM
from umbel.model.recomputation import checkpoint_blocks
from umbel.train.blocks import compile_blocks
from umbel.train.processes import World
from umbel.train.shards import local_part


class Spread:
    """A model among the processes of ``world``, as ``config`` says; afterwards ``model`` holds this process' part.

    Gradients are *sums* over processes: the objective of a process is its part of the whole step's, so nothing is
    averaged, and no result depends on how many processes there are.

    Parameters
    ----------
    model
        On its device, the same on every process.

    Attributes
    ----------
    network
        What to call in training.

    Raises
    ------
    ConfigError
        If the processes cannot be cut into groups of ``config.expert_processes``.
    """

    def __init__(self, model: UmbelForMaskedLM, config: ParallelConfig, world: World):
        self.model, self._world = model, world
        self._expert_names: frozenset[str] = frozenset()
        self._expert_mesh: DeviceMesh | None = None
        if config.expert_processes > 1:
            self._expert_mesh = expert_mesh(config.expert_processes, world.device.type)
            self._expert_names = frozenset(spread_experts(model, self._expert_mesh.get_group("experts")))
        if config.compile:
            compile_blocks(model, world.device)
        if config.activation_checkpointing:
            checkpoint_blocks(model)
        self.network: nn.Module = model
        if world.size > 1:
            self.network = self._shard() if config.kind == "fsdp" else self._replicate()

    def _expert_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.model.named_parameters() if name in self._expert_names]

    def _shard(self) -> nn.Module:
        """FSDP2: each block is a unit, and what is left (embedding, last norm, heads) another."""
        # Blocks give views, and nothing of ours writes into them.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        mesh = init_device_mesh(self._world.device.type, (self._world.size,))
        elsewhere = set(self._expert_parameters())
        for module in (*self.model.backbone.layers, self.model):
            fully_shard(module, mesh=mesh, ignored_params=elsewhere)
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                # Gloo cannot scale as it reduces.
                module.set_force_sum_reduction_for_comms(True)
        return self.model

    def _replicate(self) -> nn.Module:
        # Buffers follow from what all processes count, and are the same everywhere without being sent.
        left_out = self._expert_names | {name for name, _ in self.model.named_buffers()}
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, left_out)
        network = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        # Left to itself DDP averages. It reads the hook's annotations, and cannot resolve postponed ones.
        network.register_comm_hook(None, lambda _, bucket: _sum(bucket.buffer()))
        return network

    def accumulating(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """Enter for each micro-batch, forward and backward: DDP adds up over processes in the last one alone."""
        if isinstance(self.network, DistributedDataParallel) and not is_last:
            return self.network.no_sync()
        return nullcontext()

    def finish_gradients(self) -> None:
        """Add up what the wrappers leave out: gradients of experts over the processes that hold the same ones."""
        if self._expert_mesh is not None:
            add_expert_gradients(self._expert_parameters(), self._expert_mesh)

    def gradients(self) -> Iterator[Tensor]:
        """Give this process' part of every gradient."""
        return (local_part(p.grad) for p in self.model.parameters() if p.grad is not None)

    def gradient_norm(self) -> float:
        """Give the norm of the whole gradient, summed in float64; the same number on every process."""
        cut, whole = [], []
        n_replicas = 1 if self._expert_mesh is None else self._expert_mesh.size(0)
        for name, parameter in self.model.named_parameters():
            if parameter.grad is None:
                continue
            squares = local_part(parameter.grad).double().square().sum()
            if isinstance(parameter, DTensor):
                cut.append(squares)
            elif name in self._expert_names:
                cut.append(squares / n_replicas)
            else:
                whole.append(squares)
        zero = torch.zeros((), dtype=torch.float64, device=self._world.device)
        total = sum(whole, zero)
        if cut:
            total = total + self._world.sums(sum(cut, zero))
        return float(total.sqrt())

    def reshard(self) -> None:
        """Let go of weights that FSDP gathered for a pass without a backward: it would go on using those it has."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def saved(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn tensors by parameter name into what says which part of the whole this process holds."""
        if self._expert_mesh is None:
            return tensors
        return as_dtensors(tensors, self._expert_names & tensors.keys(), self._expert_mesh)

    def whole_weights(self) -> dict[str, Tensor]:
        """Gather all weights, on the CPU; every process must call this."""
        return {
            name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()
            for name, tensor in self.saved(self.model.state_dict()).items()
        }


def _sum(gradients: Tensor) -> torch.futures.Future[Tensor]:
    done = dist.all_reduce(gradients, async_op=True).get_future()
    return done.then(lambda future: future.value()[0])
