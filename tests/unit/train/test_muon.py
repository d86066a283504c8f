import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from umbel.errors import ShapeError
from umbel.train.muon import Muon, orthogonalise


def polynomial(value):
    """What five rounds make of one singular value, in plain floats."""
    for _ in range(5):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    return value


def wide_torch_muon(parameters, monkeypatch, **settings):
    """torch's Muon, with its bfloat16 replaced by float32."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.float().clone())
    return torch.optim.Muon(parameters, adjust_lr_fn="match_rms_adamw", **settings)


def steps(optimizer, parameters, n=5, seed=1):
    """Take steps with gradients drawn by chance, the same for every optimiser."""
    draws = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=draws)
        optimizer.step()


def close(a, b, rel=1e-6):
    """Within ``rel`` of the largest element."""
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max()) <= rel * float(b.abs().max())


@pytest.mark.parametrize("shape", [(7, 7), (5, 19), (19, 5), (1, 6), (3, 4, 9), (2, 3, 6, 4)])
def test_singular_values_go_through_the_polynomial_and_vectors_stay(shape):
    matrices = torch.randn(shape, dtype=torch.float64)
    made = orthogonalise(matrices, torch.float64)
    assert made.shape == matrices.shape and made.dtype == torch.float64
    for one, result in zip(*(stack.reshape(-1, *shape[-2:]) for stack in (matrices, made)), strict=True):
        left, values, right = torch.linalg.svd(one, full_matrices=False)
        wanted = torch.tensor([polynomial(v) for v in (values / values.square().sum().sqrt()).tolist()])
        torch.testing.assert_close(result, left @ torch.diag(wanted.double()) @ right)


def test_singular_values_end_near_one():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(50, 6, 24)))
    assert values.min() > 0.68 and values.max() < 1.14
    band = [polynomial(v) for v in np.linspace(0.002, 1, 20_000)]
    assert min(band) > 0.68 and max(band) < 1.21


def test_half_precision_is_near_and_nothing_comes_of_nothing():
    matrices = torch.randn(3, 8, 16)
    halves = orthogonalise(matrices, torch.bfloat16)
    assert halves.dtype == torch.float32 and close(halves, orthogonalise(matrices), 0.05)
    assert not torch.equal(halves, orthogonalise(matrices))
    assert not orthogonalise(torch.zeros(2, 3, 4)).any()
    assert orthogonalise(torch.zeros(0, 3, 4)).shape == (0, 3, 4)


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (10, 4)])
def test_matrices_move_as_by_torch(shape, monkeypatch):
    begin = torch.randn(shape)
    ours, theirs = nn.Parameter(begin.clone()), nn.Parameter(begin.clone())
    settings = {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.9}
    steps(Muon([ours], **settings), [ours])
    steps(wide_torch_muon([theirs], monkeypatch, **settings), [theirs])
    assert close(ours, theirs)
    assert not close(ours, begin, 0.03)


def test_torch_in_its_own_half_precision_is_near():
    begin = torch.randn(8, 12)
    ours, theirs = nn.Parameter(begin.clone()), nn.Parameter(begin.clone())
    steps(Muon([ours], lr=0.02, dtype=torch.bfloat16), [ours])
    steps(torch.optim.Muon([theirs], lr=0.02, adjust_lr_fn="match_rms_adamw"), [theirs])
    assert close(ours - begin, theirs - begin, 0.03)


@pytest.mark.parametrize("shape", [(4, 6, 10), (4, 10, 6)])
def test_each_expert_of_a_stack_moves_as_by_torch_alone(shape, monkeypatch):
    begin = torch.randn(shape)
    stack = nn.Parameter(begin.clone())
    alone = [nn.Parameter(expert.clone()) for expert in begin]
    draws = torch.Generator().manual_seed(1)
    gradients = [torch.randn(shape, generator=draws) for _ in range(5)]
    optimizer, theirs = Muon([stack], lr=0.02), wide_torch_muon(alone, monkeypatch, lr=0.02)
    for gradient in gradients:
        stack.grad = gradient.clone()
        for expert, part in zip(alone, gradient, strict=True):
            expert.grad = part.clone()
        optimizer.step()
        theirs.step()
    assert close(stack, torch.stack(list(alone)))


def test_an_update_has_the_size_of_one_of_adamw():
    for shape in ((64, 64), (256, 64), (3, 64, 128)):
        parameter = nn.Parameter(torch.zeros(shape))
        steps(Muon([parameter], lr=0.5, weight_decay=0.0), [parameter], n=1)
        assert parameter.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.15)


def test_a_saved_momentum_goes_on_to_the_same_bits(tmp_path):
    begin = torch.randn(3, 5, 7)
    whole = nn.Parameter(begin.clone())
    optimizer = Muon([whole], lr=0.02)
    steps(optimizer, [whole], 3)
    torch.save({"weights": whole.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    other = nn.Parameter(saved["weights"].clone())
    again = Muon([other], lr=1.0)
    again.load_state_dict(saved["optimizer"])
    steps(optimizer, [whole], 2, seed=7)
    steps(again, [other], 2, seed=7)
    assert torch.equal(whole, other)
    # A new one, which has forgotten the momentum, goes elsewhere.
    third = nn.Parameter(saved["weights"].clone())
    steps(Muon([third], lr=0.02), [third], 2, seed=7)
    assert not close(third, whole, 1e-3)


def test_what_has_no_gradient_stays_and_a_closure_is_called():
    moved, still = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 3))

    def closure():
        loss = moved.square().sum()
        loss.backward()
        return loss

    assert Muon([moved, still], lr=0.1).step(closure).item() == 6.0
    assert torch.equal(still, torch.ones(2, 3)) and not torch.equal(moved, torch.ones(2, 3))


def test_vectors_are_refused():
    with pytest.raises(ShapeError, match=r"moves matrices, and a parameter has shape \(5,\): give it to AdamW"):
        Muon([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(5))])


class Experts(nn.Module):
    """A matrix whose rows two processes cannot share evenly, and stacks of 3 and of 1 expert."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 5, bias=False)
        self.many = nn.Parameter(torch.randn(3, 5, 8))
        self.one = nn.Parameter(torch.randn(1, 5, 8))

    def forward(self, x):
        return (torch.tanh(self.inner(x)) @ torch.cat([self.many, self.one])).square().sum()


def trained(model, inputs, n_steps=4):
    optimizer = Muon(model.parameters(), lr=0.05)
    for x in inputs[:n_steps]:
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
    return optimizer


def shard_and_train():
    """Train on every second row; give the whole weights and momenta."""
    dist.init_process_group("gloo")
    try:
        torch.manual_seed(3)
        model, inputs = Experts(), torch.randn(4, 8, 6)
        fully_shard(model)
        model.set_gradient_divide_factor(1.0)
        model.set_force_sum_reduction_for_comms(True)
        optimizer = trained(model, inputs[:, dist.get_rank() :: 2])
        local = {name: tuple(p.to_local().shape) for name, p in model.named_parameters()}
        whole = [p.full_tensor().detach().numpy() for p in model.parameters()]
        momenta = [optimizer.state[p]["momentum_buffer"] for p in model.parameters()]
        assert all(isinstance(m, DTensor) for m in momenta)
        return local, whole, [m.full_tensor().numpy() for m in momenta]
    finally:
        dist.destroy_process_group()


def test_two_processes_with_cut_up_parameters_move_as_one():
    torch.manual_seed(3)
    model, inputs = Experts(), torch.randn(4, 8, 6)
    begin = [p.detach().clone() for p in model.parameters()]
    optimizer = trained(model, inputs)
    results = run_ranks(shard_and_train, 2)
    assert [results[r][0]["inner.weight"] for r in (0, 1)] == [(3, 6), (2, 6)]
    assert [results[r][0]["many"] for r in (0, 1)] == [(2, 5, 8), (1, 5, 8)]
    assert results[1][0]["one"] == (0, 5, 8)
    for _, whole, momenta in results:
        for parameter, before, weights, momentum in zip(model.parameters(), begin, whole, momenta, strict=True):
            assert close(torch.from_numpy(weights), parameter, 1e-6)
            assert close(torch.from_numpy(momentum), optimizer.state[parameter]["momentum_buffer"], 1e-6)
            assert not close(parameter, before, 0.02)


def cut_inside_matrices(dim):
    """Move one stack that is cut along ``dim``; give the whole of it."""
    dist.init_process_group("gloo")
    try:
        mesh, draws = init_device_mesh("cpu", (2,)), torch.Generator().manual_seed(5)
        stack, gradient = torch.randn(2, 5, 8, generator=draws), torch.randn(2, 5, 8, generator=draws)
        parameter = nn.Parameter(distribute_tensor(stack, mesh, [Shard(dim)]))
        parameter.grad = distribute_tensor(gradient, mesh, [Shard(dim)])
        Muon([parameter], lr=0.05).step()
        assert parameter.placements == (Shard(dim),)
        return parameter.full_tensor().detach().numpy()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("dim", [1, 2])
def test_experts_cut_through_their_matrices_move_as_whole_ones(dim):
    draws = torch.Generator().manual_seed(5)
    parameter = nn.Parameter(torch.randn(2, 5, 8, generator=draws))
    parameter.grad = torch.randn(2, 5, 8, generator=draws)
    Muon([parameter], lr=0.05).step()
    for whole in run_ranks(cut_inside_matrices, 2, dim):
        assert close(torch.from_numpy(whole), parameter, 1e-6)
