"""Experts spread over processes: each keeps some of every layer's, and tokens travel to their experts and back.

Shapes: n processes of a group, D width, F expert hidden, E experts of all, e = E / n of one, R routed rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from umbel.errors import AdapterError, CheckpointError, ConfigError
from umbel.model.effective_weights import is_wrapped, within
from umbel.model.moe import MoE
from umbel.ops.grouped_mlp import grouped_mlp

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

_SPREAD = ("gate", "up", "down")


class _Travel(torch.autograd.Function):
    """Rows to other processes: ``sent[i]`` rows to process i, ``received[i]`` from it; gradients go the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], received: list[int], group: ProcessGroup) -> Tensor:
        ctx.way_back = received, sent, group
        return _travel(rows, sent, received, group)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _travel(gradient, *ctx.way_back), None, None, None


def _travel(rows: Tensor, sent: list[int], received: list[int], group: ProcessGroup) -> Tensor:
    arrived = rows.new_empty(sum(received), rows.shape[1])
    dist.all_to_all_single(arrived, rows.contiguous(), received, sent, group=group)
    return arrived


class ExpertExchange:
    """What stands in the place of :func:`~umbel.ops.grouped_mlp.grouped_mlp` where experts are spread.

    Process i of ``group`` has the experts ie to (i + 1)e. Every process of the group must come here the same number of
    times, forward and backward, with or without tokens of its own: one that stays away leaves the others waiting.
    The numbers of rows have to be known before they are sent, so a GPU is waited for, once a call.

    References
    ----------
    Lepikhin et al. 2020, "GShard", arXiv:2006.16668, section 3.2: all-to-all before and after the experts.
    """

    def __init__(self, group: ProcessGroup):
        self.group, self.size = group, dist.get_world_size(group)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExpertExchange:
        """Stay the same in a copied model: a process group has no copies."""
        return self

    # Sizes depend on the routing, which a compiler cannot see; it goes on behind this call.
    @torch.compiler.disable
    def __call__(self, rows_RD: Tensor, gate_eFD: Tensor, up_eFD: Tensor, down_eDF: Tensor, counts_E: Tensor) -> Tensor:
        """Give each row what its expert makes of it, ``(R, D)``; rows after the last expert's come out as zeros.

        Parameters
        ----------
        rows_RD
            This process's rows, sorted by expert of all; those after the last expert's (padding) are not sent.
        gate_eFD, up_eFD, down_eDF
            The experts that this process keeps.
        counts_E
            This process's rows per expert of all.
        """
        sent_ne = counts_E.view(self.size, -1)
        received_ne = torch.empty_like(sent_ne)
        dist.all_to_all_single(received_ne, sent_ne, group=self.group)
        sent, received = torch.stack([sent_ne.sum(1), received_ne.sum(1)]).tolist()
        arrived = _Travel.apply(rows_RD[: sum(sent)], sent, received, self.group)
        # Rows come sorted by sender and then by expert; the experts want all senders' rows together.
        experts = torch.arange(received_ne.shape[1], device=received_ne.device).repeat(self.size)
        order = experts.repeat_interleave(received_ne.flatten(), output_size=sum(received)).argsort(stable=True)
        served = grouped_mlp(arrived.index_select(0, order), gate_eFD, up_eFD, down_eDF, received_ne.sum(0))
        home = _Travel.apply(served.index_select(0, order.argsort()), received, sent, self.group)
        return torch.cat([home, home.new_zeros(len(rows_RD) - len(home), home.shape[1])])


def spread_experts(model: nn.Module, group: ProcessGroup) -> list[str]:
    """Keep this process's share of every layer's experts, and let tokens travel to the others'.

    ``gate``, ``up`` and ``down`` of each :class:`~umbel.model.moe.MoE` become new parameters ``(e, ...)`` under their
    old names: make the optimiser, and wrap the model in DDP or FSDP, afterwards. All processes must begin with the same
    weights.

    Returns
    -------
    Names of the parameters that are parts now. Their gradients are sums over the tokens of the whole group; those of
    all other parameters are over this process's tokens, as before.

    Raises
    ------
    ConfigError
        If a layer's experts cannot be shared out evenly, are spread already, or there are none.
    AdapterError
        If they have an adapter.
    """
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, MoE)]
    if not layers:
        raise ConfigError(f"parallel.expert_processes is {size}, and this model has no expert layers: set it to 1")
    for path, module in model.named_modules():
        if is_wrapped(module) and isinstance(within(module), MoE):
            raise AdapterError(
                f"{path}: its experts have an adapter, made for all of them: merge it before spreading them"
            )
    for path, moe in layers:
        if moe.exchange is not None:
            raise ConfigError(f"{path}: its experts are spread over processes already")
        if len(moe.gate) % size:
            raise ConfigError(
                f"{path}: {len(moe.gate)} experts cannot be shared out evenly among {size} processes: set "
                "parallel.expert_processes to a divisor of model.n_experts"
            )
    names = []
    for path, moe in layers:
        for name in _SPREAD:
            whole = getattr(moe, name)
            part = whole.detach().chunk(size)[rank].clone()
            setattr(moe, name, nn.Parameter(part, requires_grad=whole.requires_grad))
            names.append(f"{path}.{name}".removeprefix("."))
        moe.exchange = ExpertExchange(group)
    return names


def expert_mesh(expert_processes: int, device_type: str) -> DeviceMesh:
    """Lay all processes out as (replicas, experts): a row's processes share experts, a column's have the same ones.

    Neighbouring ranks share experts, which on most clusters are on one machine. ``mesh.get_group("experts")`` is the
    group for :func:`spread_experts`. Every process must call this, at the same point.

    Parameters
    ----------
    expert_processes
        Processes that share each layer's experts.
    device_type
        ``cuda`` or ``cpu``.

    Raises
    ------
    ConfigError
        If the number of processes is not a multiple of ``expert_processes``.
    """
    from torch.distributed.device_mesh import init_device_mesh

    world = dist.get_world_size()
    if world % expert_processes:
        raise ConfigError(
            f"parallel.expert_processes is {expert_processes}, and there are {world} processes: start a multiple of it"
        )
    shape = (world // expert_processes, expert_processes)
    return init_device_mesh(device_type, shape, mesh_dim_names=("replicas", "experts"))


def add_expert_gradients(parts: Iterable[nn.Parameter], mesh: DeviceMesh) -> None:
    """Add up the gradients of parts over the processes that hold the same ones.

    A part's gradient is the sum over the processes of its row of the mesh already; what is left is its column. Call it
    once a step, after the last backward pass.
    """
    if mesh.size(0) > 1:
        for part in parts:
            if part.grad is not None:
                dist.all_reduce(part.grad, group=mesh.get_group("replicas"))


def as_dtensors(state: dict[str, Tensor], names: Iterable[str], mesh: DeviceMesh) -> dict[str, Any]:
    """Say of the parts in a state which share of the whole they are, so that any number of processes can load it.

    The others stay as they are. Nothing is copied: what ``torch.distributed.checkpoint`` loads into the result is in
    the tensors of ``state``. ``full_tensor()`` of a part, called by every process, gives all experts.

    Parameters
    ----------
    state
        Tensors by name, such as ``model.state_dict()``.
    names
        Those that are parts, from :func:`spread_experts`; for an optimiser's moments, under their names there.
    mesh
        From :func:`expert_mesh`.

    Raises
    ------
    CheckpointError
        If a name is not in the state: one process's part would be saved as the whole.
    """
    from torch.distributed.tensor import DTensor, Replicate, Shard

    names = set(names)
    if missing := sorted(names - state.keys()):
        raise CheckpointError(f"the state lacks {', '.join(missing)}, which are spread over processes")
    layout = [Replicate(), Shard(0)]
    return {
        name: DTensor.from_local(value, mesh, layout, run_check=False) if name in names else value
        for name, value in state.items()
    }
