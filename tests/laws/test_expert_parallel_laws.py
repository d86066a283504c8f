"""Experts spread over processes give what they give in one: outputs, routings and every gradient."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import run_ranks
from toys import enlarge

from umbel.config import ModelConfig
from umbel.errors import CheckpointError, ConfigError
from umbel.model.backbone import Backbone, real_tokens
from umbel.model.expert_exchange import add_expert_gradients, as_dtensors, expert_mesh, spread_experts
from umbel.model.moe import MoE

PAD, ROWS, LENGTH = 4, 4, 23
SHAPE = {"n_layers": 2, "d_model": 16, "d_state": 4, "n_heads": 2, "ffn_hidden": 24, "n_experts": 4}
CASES = {
    "top-1": {},
    "top-2, normalised, shared experts": {"top_k": 2, "gating": "normalised", "n_shared_experts": 1},
    "two expert layers, plain": {"pattern": "He Ae", "top_k": 2, "gating": "plain"},
    "everything to one expert": {"gating": "bias"},
    "an idle process": {"top_k": 2, "gating": "bias"},
    "packed": {"pattern": "Me"},
}
FAVOURED = {"everything to one expert": [0.0, 0.0, 9.0, 0.0], "an idle process": [-9.0, 0.0, 0.0, 9.0]}


def make_model(case, dtype):
    torch.manual_seed(1)
    model = enlarge(Backbone(ModelConfig(**SHAPE | CASES[case]))).to(dtype)
    for module in model.modules():
        if case in FAVOURED and isinstance(module, MoE):
            module.router.load_bias.copy_(torch.tensor(FAVOURED[case]))
    return model


def make_batch(case):
    """Ids with padding on either side of some rows, segments where they are asked for, and what the loss looks for."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(7, 11, (ROWS, LENGTH), generator=generator)
    ids[1, :9], ids[3, 20:] = PAD, PAD
    if case == "an idle process":
        ids[0] = PAD
    segments = (torch.arange(LENGTH) // 5).expand(ROWS, LENGTH) if case == "packed" else None
    target = torch.randn(ROWS, LENGTH, SHAPE["d_model"], generator=generator)
    target[ids == PAD] = 0
    return ids, segments, target


def run(model, case, rows):
    """Outputs at real tokens, routings, and gradients of a sum over the rows' tokens."""
    ids, segments, target = make_batch(case)
    ids, target = ids[rows], target[rows].to(model.norm.weight.dtype)
    output = model(ids, segment_ids=None if segments is None else segments[rows])
    (output.hidden * target).sum().backward()
    real = torch.ones_like(ids, dtype=torch.bool) if real_tokens(ids, None) is None else real_tokens(ids, None)
    found = {"hidden": output.hidden * real[:, :, None]}
    for routing in output.routings:
        found |= {f"{routing.layer} {name}": getattr(routing, name) for name in ("logits", "experts", "weights")}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return [{name: x.detach().numpy() for name, x in values.items()} for values in (found, gradients)]


def share(rank, size):
    return slice(rank * ROWS // size, (rank + 1) * ROWS // size)


def run_spread():
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    results = {}
    for case in CASES:
        for dtype in (torch.float32, torch.float64):
            model = make_model(case, dtype)
            parts = spread_experts(model, dist.group.WORLD)
            results[case, dtype] = (*run(model, case, share(rank, size)), parts)
    model = make_model("top-1", torch.float32)
    spread_experts(model, dist.group.WORLD)
    with torch.no_grad():
        results["evaluated"] = model(make_batch("top-1")[0][share(rank, size)]).hidden.numpy()
    dist.destroy_process_group()
    return results


@cache
def spread(size):
    return run_ranks(run_spread, size)


def assert_same(got, wanted, tolerance, name):
    assert got.shape == wanted.shape, name
    assert np.linalg.norm(got - wanted) <= tolerance * np.linalg.norm(wanted), name


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_spread_experts_give_what_one_process_gives(case, dtype, size):
    outputs, gradients = run(make_model(case, dtype), case, slice(0, ROWS))
    ranks = [result[case, dtype] for result in spread(size)]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for name, wanted in outputs.items():
        assert_same(np.concatenate([found[name] for found, _, _ in ranks]), wanted, tolerance, name)
    parts = ranks[0][2]
    assert len(parts) == 3 * sum(kind[1] == "e" for kind in ModelConfig(**SHAPE | CASES[case]).layer_kinds)
    for name, wanted in gradients.items():
        each = [found[name] for _, found, _ in ranks]
        got = np.concatenate(each) if name in parts else np.sum(each, axis=0)
        assert_same(got, wanted, tolerance, name)


def test_the_cases_are_as_uneven_as_their_names_say():
    def load(case):
        outputs, _ = run(make_model(case, torch.float32), case, slice(0, ROWS))
        return np.bincount(outputs["1 experts"][outputs["1 experts"] >= 0], minlength=4)

    assert (load("everything to one expert") > 0).tolist() == [False, False, True, False]
    # With four processes, 0 has padding alone and the expert that nobody takes: it neither sends nor gets a row.
    assert (load("an idle process") > 0).tolist() == [False, True, True, True]
    assert (make_batch("an idle process")[0][0] == PAD).all()


def run_without_tokens():
    dist.init_process_group("gloo")
    moe = make_model("top-1", torch.float32).layers[1].ffn
    whole = copy.deepcopy(moe)
    spread_experts(moe, dist.group.WORLD)
    x = torch.randn(1, 0 if dist.get_rank() == 0 else 5, 16, generator=torch.Generator().manual_seed(3))
    x.requires_grad_()
    (y, _), (wanted, _) = moe(x), whole(x)
    torch.testing.assert_close(y, wanted)
    (y.sum() * 1.0).backward()
    twin = copy.deepcopy(moe)
    with torch.no_grad():
        torch.testing.assert_close(twin(x)[0], wanted)
    return tuple(y.shape), tuple(x.grad.shape), moe.gate.grad is not None


def test_a_process_without_tokens_takes_part():
    assert run_ranks(run_without_tokens, 2) == [((1, 0, 16), (1, 0, 16), True), ((1, 5, 16), (1, 5, 16), True)]


def test_a_spread_model_evaluates_right():
    """The way without gradients reads weights rather than calling layers: a spread model must not go it."""
    ids = make_batch("top-1")[0]
    with torch.no_grad():
        wanted = make_model("top-1", torch.float32)(ids).hidden.numpy()
    got = np.concatenate([result["evaluated"] for result in spread(2)])
    real = (ids != PAD).numpy()
    assert_same(got[real], wanted[real], 1e-6, "hidden")


def wrapped(model, parts, mesh, kind):
    """Let DDP or FSDP2 care for all that is not spread."""
    if kind == "ddp":
        model._ddp_params_and_buffers_to_ignore = parts
        return torch.nn.parallel.DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    own = {p for name, p in model.named_parameters() if name in parts}
    world = init_device_mesh("cpu", (mesh.size(),))
    for block in model.layers:
        fully_shard(block, mesh=world, ignored_params=own)
    return fully_shard(model, mesh=world, ignored_params=own)


def whole_gradient(name, p, parts, mesh):
    gradient = as_dtensors({name: p.grad}, {name} & set(parts), mesh)[name]
    return gradient.full_tensor().numpy() if hasattr(gradient, "full_tensor") else gradient.numpy()


def run_replicas():
    """Two replicas of two processes each."""
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = expert_mesh(2, "cpu")
    found = {}
    for kind in ("ddp", "fsdp"):
        model = make_model("top-1", torch.float32)
        parts = spread_experts(model, mesh.get_group("experts"))
        outer = wrapped(model, parts, mesh, kind)
        ids, _, target = make_batch("top-1")
        (outer(ids[share(rank, size)]).hidden * target[share(rank, size)]).sum().backward()
        named = dict(model.named_parameters())
        add_expert_gradients([named[name] for name in parts], mesh)
        for name in parts:
            # As the wrappers do with all others, unless told to add up.
            named[name].grad /= size
        found[kind] = {name: whole_gradient(name, p, parts, mesh) for name, p in named.items()}
    dist.destroy_process_group()
    return found


def test_gradients_of_spread_experts_are_added_up_over_replicas():
    _, wanted = run(make_model("top-1", torch.float32), "top-1", slice(0, ROWS))
    for result in run_ranks(run_replicas, 4):
        for kind, found in result.items():
            assert found.keys() == wanted.keys()
            for name, gradient in wanted.items():
                assert_same(found[name], gradient / 4, 1e-6, f"{kind}: {name}")


def run_save(folder):
    dist.init_process_group("gloo")
    mesh = expert_mesh(2, "cpu")
    model = make_model("two expert layers, plain", torch.float32)
    parts = spread_experts(model, mesh.get_group("experts"))
    dcp.save(as_dtensors(model.state_dict(), parts, mesh), checkpoint_id=folder)
    whole = as_dtensors(model.state_dict(), parts, mesh)[parts[0]].full_tensor()
    dist.destroy_process_group()
    return whole.numpy()


def run_load(folder, layouts):
    """Load into a model of nothing but -1, spread over so many processes, for each of the layouts."""
    dist.init_process_group("gloo")
    loaded = []
    for expert_processes in layouts:
        mesh = expert_mesh(expert_processes, "cpu")
        model = make_model("two expert layers, plain", torch.float32)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(-1)
        parts = spread_experts(model, mesh.get_group("experts"))
        dcp.load(as_dtensors(model.state_dict(), parts, mesh), checkpoint_id=folder)
        loaded.append(({name: value.numpy() for name, value in model.state_dict().items()}, parts))
    dist.destroy_process_group()
    return loaded


@pytest.mark.filterwarnings("ignore:.*torch.distributed is disabled, unavailable or uninitialized")
def test_what_four_processes_save_any_number_loads(tmp_path):
    wanted = make_model("two expert layers, plain", torch.float32).state_dict()
    folder = tmp_path / "state"
    for whole in run_ranks(run_save, 4, folder):
        assert np.array_equal(whole, wanted["layers.0.ffn.gate"])
    for size, layouts in ((1, [1]), (2, [1, 2]), (4, [2, 4])):
        for rank, loaded in enumerate(run_ranks(run_load, size, folder, layouts)):
            for expert_processes, (state, parts) in zip(layouts, loaded, strict=True):
                assert state.keys() == wanted.keys()
                for name, value in state.items():
                    whole = wanted[name].numpy()
                    if name in parts:
                        whole = np.split(whole, expert_processes)[rank % expert_processes]
                    assert np.array_equal(value, whole), (size, expert_processes, name)
    alone = {name: torch.empty_like(value) for name, value in wanted.items()}
    dcp.load(alone, checkpoint_id=folder)
    assert all(torch.equal(alone[name], value) for name, value in wanted.items())


def message(function, *args):
    try:
        function(*args)
    except (ConfigError, CheckpointError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def run_refusals():
    dist.init_process_group("gloo")
    group, mesh = dist.group.WORLD, expert_mesh(3, "cpu")
    spread_model = Backbone(ModelConfig(**SHAPE | {"n_experts": 6}))
    parts = spread_experts(spread_model, group)
    return [
        message(spread_experts, Backbone(ModelConfig(**SHAPE)), group),
        message(spread_experts, Backbone(ModelConfig(**SHAPE | {"pattern": "Md"})), group),
        message(spread_experts, spread_model, group),
        message(expert_mesh, 2, "cpu"),
        message(as_dtensors, {}, parts[:1], mesh),
    ]


def test_refusals():
    for told in run_ranks(run_refusals, 3):
        assert told == [
            "ConfigError: layers.1.ffn: 4 experts cannot be shared out evenly among 3 processes: set "
            "parallel.expert_processes to a divisor of model.n_experts",
            "ConfigError: parallel.expert_processes is 3, and this model has no expert layers: set it to 1",
            "ConfigError: layers.1.ffn: its experts are spread over processes already",
            "ConfigError: parallel.expert_processes is 2, and there are 3 processes: start a multiple of it",
            "CheckpointError: the state lacks layers.1.ffn.gate, which are spread over processes",
        ]
