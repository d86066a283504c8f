from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from toys import toy_packed_run, toy_placement_run, toy_run

from umbel.config import OptimConfig
from umbel.data.batches import TrainingBatches
from umbel.data.kmers import KmerTokens
from umbel.model.hf import new_model
from umbel.train.learner import Learner, untrained_model
from umbel.train.muon import Muon
from umbel.train.optim import make_optimizers
from umbel.train.processes import World
from umbel.train.step import train_step

MUON = OptimConfig(kind="muon", lr=0.1, weight_decay=0.3, muon_momentum=0.8)
CPU = torch.device("cpu")


def names_of(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return [{names[id(p)] for p in group["params"]} for group in optimizer.param_groups]


def test_only_matrices_decay():
    model = new_model(toy_run().model, 256, 0)
    (optimizer,) = make_optimizers(model, OptimConfig(weight_decay=0.3))
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    in_decayed, in_free = names_of(model, optimizer)
    assert in_free | in_decayed == {name for name, _ in model.named_parameters()}
    for name in in_free:
        assert any(part in name for part in ("A_log", ".D", "norm", "bias", "conv_weight", "embedding"))
    assert all(name.endswith(("weight", "gate", "up", "down")) for name in in_decayed)
    assert not any("norm" in name or "A_log" in name or "embedding" in name for name in in_decayed)


def test_a_step_without_gradient_signal_shrinks_only_what_decays():
    model = new_model(toy_run().model, 256, 0)
    (optimizer,) = make_optimizers(model, OptimConfig(weight_decay=0.5, lr=0.1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    direction = "backbone.layers.0.mixer.along"
    after = dict(model.named_parameters())
    assert torch.equal(after[f"{direction}.A_log"], before[f"{direction}.A_log"])
    torch.testing.assert_close(after[f"{direction}.x_proj.weight"], before[f"{direction}.x_proj.weight"] * 0.95)


def test_muon_moves_the_matrices_of_mamba_layers_and_experts_and_adamw_the_rest():
    model = untrained_model(toy_placement_run(), KmerTokens(1))
    muon, adamw = make_optimizers(model, MUON)
    assert (type(muon), type(adamw)) == (Muon, torch.optim.AdamW)
    mixer = {"in_proj.weight", "out_proj.weight"}
    mixer |= {f"{way}.{part}.weight" for way in ("along", "against") for part in ("x_proj", "dt_proj")}
    dense, experts = {"gate.weight", "up.weight", "down.weight"}, {"gate", "up", "down", "router.weight"}
    wanted = {f"backbone.layers.{i}.mixer.{name}" for i in (0, 1) for name in mixer}
    wanted |= {f"backbone.layers.0.ffn.{name}" for name in dense}
    wanted |= {f"backbone.layers.1.ffn.{name}" for name in experts}
    assert names_of(model, muon) == [wanted]
    decayed, free = names_of(model, adamw)
    assert decayed == {"placement.query.weight", "placement.key.weight"}
    assert free == {name for name, _ in model.named_parameters()} - wanted - decayed
    assert "backbone.embedding.weight" in free
    (group,) = muon.param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.1, 0.3, 0.8)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.3, 0.0]


def test_muon_takes_projections_of_attention_and_long_convolutions_and_no_filter():
    run = toy_packed_run()
    gated = {"gating": "normalised", "top_k": 2, "n_shared_experts": 1, "hyena_taps": 3}
    run = replace(run, model=replace(run.model, pattern="Hd Ae", n_heads=2, expert_hidden=8, **gated))
    model = new_model(run.model, 256, 0)
    muon, adamw = make_optimizers(model, MUON)
    (ours,), theirs = names_of(model, muon), set().union(*names_of(model, adamw))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for part in ("log_decay", "frequency", "residues", "conv_weight", "embedding", "norm", "skip"):
        assert any(part in name for name in theirs) and not any(part in name for name in ours)
    for part in ("in_proj", "out_proj", "shared.down", "router"):
        assert any(part in name for name in ours) and not any(part in name for name in theirs)
    assert {name for name in theirs if len(shapes[name]) > 1 and "layers" in name} == {
        f"backbone.layers.0.mixer.{name}"
        for name in ("conv_weight", "along.log_decay", "along.frequency", "along.residues")
    }


def test_what_is_frozen_is_left_out():
    model = new_model(toy_run().model, 256, 0)
    model.backbone.layers[0].requires_grad_(False)
    named = set().union(*(names for o in make_optimizers(model, MUON) for names in names_of(model, o)))
    assert named and not any(name.startswith("backbone.layers.0.") for name in named)


def test_the_fused_adamw_is_the_plain_one():
    begin = [torch.randn(20, 30), torch.randn(7)]
    ours, theirs = ([nn.Parameter(w.clone()) for w in begin] for _ in range(2))
    config = OptimConfig(lr=0.01, weight_decay=0.2, beta1=0.9, beta2=0.95)
    (fused,) = make_optimizers(nn.ParameterDict({"a": ours[0], "b": ours[1]}), config)
    assert fused.defaults["fused"]
    groups = [{"params": theirs[:1], "weight_decay": 0.2}, {"params": theirs[1:], "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), foreach=False, fused=False)
    for _ in range(20):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        fused.step()
        plain.step()
    for a, b, before in zip(ours, theirs, begin, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(a.detach(), before, atol=0.05)


def test_where_torch_has_no_fused_adamw_the_plain_one_is_taken():
    model = nn.Linear(3, 3, device="meta")
    assert not make_optimizers(model, OptimConfig())[0].defaults["fused"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_same_steps_twice_give_the_same_bits_and_a_lower_loss(kind, toy_corpus):
    run = toy_run(steps=8, batch_windows=2)
    run = replace(run, optim=replace(run.optim, kind=kind))
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 2)
    weights, losses = [], []
    for _ in range(2):
        model = new_model(run.model, 256, 0)
        learner = Learner(model, run, World(CPU))
        losses.append([])
        for _ in range(8):
            losses[-1].append(train_step(learner, batches).metrics["loss"])
            learner.step += 1
        weights.append(model.state_dict())
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0] - 0.03
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


def partly_cut(mesh=None):
    """A layer and a head, trained on gradients drawn by chance; with a mesh the layer is cut up over it."""
    torch.manual_seed(4)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(6, 5)]), "head": nn.Linear(5, 3)})
    whole = {name: p.detach().clone() for name, p in model.named_parameters()}
    if mesh is not None:
        layer = model["layers"][0]
        for name, p in list(layer.named_parameters()):
            layer.register_parameter(name, nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)])))
    optimizers = make_optimizers(model, replace(MUON, lr=0.05))
    for _ in range(3):
        for name, p in model.named_parameters():
            gradient = torch.randn(whole[name].shape)
            p.grad = (
                gradient if name.startswith("head") or mesh is None else distribute_tensor(gradient, mesh, [Shard(0)])
            )
        for optimizer in optimizers:
            optimizer.step()
    return model, optimizers


def cut_over_two():
    dist.init_process_group("gloo")
    try:
        model, optimizers = partly_cut(init_device_mesh("cpu", (2,)))
        found = {name: p.detach() for name, p in model.named_parameters()}
        found = {n: (p if n.startswith("head") else p.full_tensor()).numpy() for n, p in found.items()}
        return found, [len(group["params"]) for group in optimizers[1].param_groups]
    finally:
        dist.destroy_process_group()


def test_parameters_cut_up_and_whole_ones_move_side_by_side():
    model, optimizers = partly_cut()
    # Decayed: the head's matrix. Free: both biases, in two groups where one of them is cut up.
    assert [len(group["params"]) for group in optimizers[1].param_groups] == [1, 2]
    for found, sizes in run_ranks(cut_over_two, 2):
        assert sizes == [1, 1, 1]
        for name, p in model.named_parameters():
            torch.testing.assert_close(torch.from_numpy(found[name]), p.detach(), rtol=1e-6, atol=1e-6)
