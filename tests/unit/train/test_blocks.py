"""Blocks that forget their activations, and compiled blocks: nothing else changes."""

import copy
import sys
import sysconfig
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch.profiler import ProfilerActivity, profile
from toys import enlarge

from umbel.config import ModelConfig
from umbel.errors import BackendError, ConfigError
from umbel.model import inference
from umbel.model.backbone import Backbone
from umbel.model.expert_exchange import add_expert_gradients, expert_mesh, spread_experts
from umbel.model.recomputation import checkpoint_blocks
from umbel.train.blocks import compile_blocks, why_not_compile

# Torch's compiler looks at the .grad of what goes into a block, makes an instance of an autograd.Function, and uses
# torch.jit; torch warns against all three.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning"),
]

CPU, PAD = torch.device("cpu"), 4
SHAPE = ModelConfig(n_layers=2, d_model=16, d_state=4, n_heads=2, ffn_hidden=24, n_experts=3)
VARIANTS = {
    "plantbimoe": {"pattern": "Md Me"},
    "experts alone": {"pattern": "Me"},
    "hyenamoe": {"pattern": "He Ae", "gating": "normalised", "top_k": 2, "n_shared_experts": 1},
}
INPUTS = ("full", "padded", "packed")


def make_model(variant="plantbimoe", n_layers=2):
    torch.manual_seed(1)
    return enlarge(Backbone(replace(SHAPE, n_layers=n_layers, **VARIANTS[variant])))


def make_inputs(kind, rows=2, length=41):
    ids = torch.randint(7, 11, (rows, length), generator=torch.Generator().manual_seed(length))
    if kind == "padded":
        ids[0, -5:] = PAD
    segments = (torch.arange(length) // 9).expand(rows, length) if kind == "packed" else None
    return ids, segments


def made_target(ids):
    target = torch.randn(*ids.shape, SHAPE.d_model, generator=torch.Generator().manual_seed(2))
    target[ids == PAD] = 0
    return target


def train(model, ids, segments):
    """Give a loss that every output has a part in, its gradients, and the routings."""
    output = model(ids, segment_ids=segments)
    loss = (output.hidden * made_target(ids)).sum() + sum(routing.logits.square().sum() for routing in output.routings)
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}, output.routings


def assert_like(got, wanted, tolerance):
    """Compare what :func:`train` gives; a tolerance of 0 means every bit."""
    losses, gradients = (got[0], wanted[0]), (got[1], wanted[1])
    assert gradients[0].keys() == gradients[1].keys()
    pairs = {"loss": losses} | {name: (gradients[0][name], gradients[1][name]) for name in gradients[1]}
    for name, (a, b) in pairs.items():
        assert (a - b).norm() <= tolerance * b.norm(), name
        assert tolerance or torch.equal(a, b), name
    assert [routing.layer for routing in got[2]] == [routing.layer for routing in wanted[2]]
    for mine, theirs in zip(got[2], wanted[2], strict=True):
        assert type(mine.layer) is int
        assert torch.equal(mine.experts, theirs.experts)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("variant", ["plantbimoe", "hyenamoe"])
def test_checkpointed_blocks_give_the_same_bits(variant, kind):
    model, inputs = make_model(variant), make_inputs(kind)
    wanted = train(copy.deepcopy(model), *inputs)
    names = list(model.state_dict())
    checkpoint_blocks(model)
    assert list(model.state_dict()) == names
    assert_like(train(model, *inputs), wanted, 0)


def kept_bytes(model, ids):
    """Bytes that a forward pass took from torch's allocator and has not given back at its end."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as measured:
        output = model(ids)
    assert output.hidden.requires_grad
    return sum(event.self_cpu_memory_usage for event in measured.events())


def test_checkpointed_blocks_keep_little_more_than_their_inputs():
    n_layers, (ids, _) = 8, make_inputs("full", length=512)
    plain = make_model(n_layers=n_layers)
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    kept_bytes(plain, ids)  # what the first pass alone sets up
    stream = ids.numel() * SHAPE.d_model * 4
    before, after = kept_bytes(plain, ids), kept_bytes(checkpointed, ids)
    # A block's inputs are its stream and branch; routing is a value that the caller keeps.
    assert after < (2 * n_layers + 8) * stream
    assert before > 4 * after


def test_a_pass_without_gradients_is_left_alone():
    model, (ids, segments) = make_model(), make_inputs("padded")
    with torch.no_grad():
        wanted = model(ids, segment_ids=segments).hidden
        compile_blocks(model, CPU, backend=_refuse_to_compile)
        checkpoint_blocks(model)
        assert inference.is_possible(model)
        assert torch.equal(model(ids, segment_ids=segments).hidden, wanted)
        packed = model(ids, segment_ids=torch.zeros_like(ids)).hidden
    assert torch.isfinite(packed).all()


def _refuse_to_compile(graph, inputs):
    raise AssertionError("compiled")


@pytest.fixture
def compiler():
    """Compile without generating code, and count how often; what matters here needs no C++."""
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    count.graphs = graphs
    yield count
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        ("plantbimoe", "padded"),
        pytest.param("hyenamoe", "packed", marks=pytest.mark.slow),
        pytest.param("plantbimoe", "packed", marks=pytest.mark.slow),
        pytest.param("hyenamoe", "full", marks=pytest.mark.slow),
    ],
)
def test_compiled_and_checkpointed_blocks_are_plain_ones(variant, kind, compiler):
    model, inputs = make_model(variant), make_inputs(kind)
    plain, names = copy.deepcopy(model), list(model.state_dict())
    wanted = train(plain, *inputs)
    compile_blocks(model, CPU, backend=compiler)
    assert list(model.state_dict()) == names
    assert_like(train(model, *inputs), wanted, 1e-6)
    checkpoint_blocks(model)
    assert_like(train(model, *inputs), wanted, 1e-6)
    assert_like(train(copy.deepcopy(model), *inputs), wanted, 1e-6)
    assert compiler.graphs


@pytest.mark.parametrize("kind", ["full", pytest.param("packed", marks=pytest.mark.slow)])
def test_all_blocks_of_a_kind_share_their_code(kind, compiler):
    model = make_model(n_layers=10)
    compile_blocks(model, CPU, backend=compiler)
    made = []
    for rows, length in ((3, 40), (3, 57), (3, 83)) if kind == "packed" else ((2, 40), (5, 57), (3, 83)):
        before = len(compiler.graphs)
        routings = train(model, *make_inputs(kind, rows, length))[2]
        assert [routing.layer for routing in routings] == [1, 3, 5, 7, 9]
        made.append(len(compiler.graphs) - before)
    # The first block, the others like it, and those with experts.
    assert made == [3, 0, 0]


@pytest.mark.skipif(why_not_compile(CPU) is not None, reason=f"torch.compile {why_not_compile(CPU)}")
def test_generated_code_gives_the_same():
    """One layer, that a default run of the tests need not generate much."""
    torch._dynamo.reset()
    model, inputs = make_model("experts alone", n_layers=1), make_inputs("full", length=80)
    wanted = train(copy.deepcopy(model), *inputs)
    compile_blocks(model, CPU)
    checkpoint_blocks(model)
    assert_like(train(model, *inputs), wanted, 1e-6)


@pytest.mark.slow
@pytest.mark.skipif(why_not_compile(CPU) is not None, reason=f"torch.compile {why_not_compile(CPU)}")
@pytest.mark.parametrize("variant", ["plantbimoe", "hyenamoe"])
def test_generated_code_gives_the_same_for_all_inputs(variant):
    torch._dynamo.reset()
    model = make_model(variant)
    plain = copy.deepcopy(model)
    compile_blocks(model, CPU)
    for kind, rows, length in (("full", 2, 80), ("padded", 3, 95), ("packed", 3, 70), ("packed", 1, 130)):
        inputs = make_inputs(kind, rows, length)
        assert_like(train(model, *inputs), train(plain, *inputs), 1e-6)


def four_experts():
    torch.manual_seed(1)
    return enlarge(Backbone(replace(SHAPE, n_experts=4)))


def run_all_together(is_compiled, is_spread):
    """Checkpointed blocks with DDP or FSDP2 around, perhaps compiled, perhaps of spread experts; a row a process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, mesh, world, found = dist.get_rank(), expert_mesh(2, "cpu"), init_device_mesh("cpu", (2,)), {}
    ids, _ = make_inputs("padded")
    for kind in ("ddp", "fsdp"):
        torch._dynamo.reset()
        model = four_experts()
        parts = spread_experts(model, mesh.get_group("experts")) if is_spread else []
        own = {p for name, p in model.named_parameters() if name in parts}
        if is_compiled:
            compile_blocks(model, CPU, backend="eager")
        checkpoint_blocks(model)
        if kind == "ddp":
            model._ddp_params_and_buffers_to_ignore = parts
            outer = DistributedDataParallel(model)
        else:
            for block in model.layers:
                fully_shard(block, mesh=world, ignored_params=own)
            outer = fully_shard(model, mesh=world, ignored_params=own)
        for _ in range(2):  # the second step finds the code, and weights that were gathered before
            outer.zero_grad()
            (outer(ids[rank : rank + 1]).hidden * made_target(ids)[rank]).sum().backward()
        add_expert_gradients(own, mesh)
        for part in own:
            part.grad /= mesh.size()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        whole = {n: g.full_tensor() if hasattr(g, "full_tensor") else g for n, g in gradients.items()}
        found[kind] = {n: g.numpy() for n, g in whole.items()}, parts
    dist.destroy_process_group()
    return found


@pytest.mark.parametrize(
    ("is_compiled", "is_spread"),
    [
        (False, True),
        pytest.param(True, True, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
    ],
)
def test_all_of_it_together_in_two_processes(is_compiled, is_spread):
    model, (ids, _) = four_experts(), make_inputs("padded")
    (model(ids).hidden * made_target(ids)).sum().backward()
    first, second = run_ranks(run_all_together, 2, is_compiled, is_spread)
    for case, (gradients, parts) in first.items():
        for name, p in model.named_parameters():
            got = gradients[name]
            if name in parts:
                got = np.concatenate([got, second[case][0][name]])
            wanted = p.grad.numpy() / 2
            assert np.linalg.norm(got - wanted) <= 1e-6 * np.linalg.norm(wanted), (case, name)


def test_refusals(monkeypatch):
    def told():
        with pytest.raises(BackendError) as error:
            compile_blocks(make_model(), CPU)
        return str(error.value)

    monkeypatch.setenv("CXX", "no-such-compiler")
    assert told() == (
        "parallel.compile=true needs a C++ compiler, and there is no no-such-compiler (install it, or name another one "
        "in CXX). Or set parallel.compile=false"
    )
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: f"/nowhere/{name}")
    assert "needs Python's headers, and there is no /nowhere/include/Python.h" in told()
    monkeypatch.setattr("umbel.train.blocks.INSTALLED", {"triton": False})
    assert why_not_compile(torch.device("cuda")) == ("needs triton on a GPU, which comes with torch for CUDA on Linux")
    model = make_model()
    checkpoint_blocks(model)
    with pytest.raises(ConfigError, match="already: compile them once, before checkpointing"):
        compile_blocks(model, CPU, backend="eager")
