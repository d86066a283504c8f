"""The operators inside torch: schemas and fakes hold, and compile, export and checkpointing go through them."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from toys import toy_run

from umbel.model.backbone import Block, spans_of
from umbel.ops.causal_conv import op as conv
from umbel.ops.grouped_mlp import op as experts
from umbel.ops.long_conv import long_conv
from umbel.ops.long_conv import op as long
from umbel.ops.rms_norm import op as norm
from umbel.ops.selective_scan import op as scan

# Compiled without code generation: what matters is that the graph is whole, and the machine may lack a compiler.
COMPILER = "aot_eager"


def leaf(*size):
    return torch.randn(size, requires_grad=True)


def scan_arguments(gate, spans):
    u, dt, B, C = leaf(2, 2, 9, 5), leaf(2, 2, 9, 5), leaf(2, 2, 9, 3), leaf(2, 2, 9, 3)
    A = (-torch.rand(2, 5, 3)).requires_grad_()
    z, initial = (leaf(2, 9, 5), leaf(2, 2, 5, 3)) if gate else (None, None)
    return (u, dt, A, B, C, leaf(2, 5), leaf(2, 5), z, initial, spans, False, True, "cpu")


def long_arguments(initial, spans, keep=True):
    residues, poles = leaf(5, 3, 2), (-torch.rand(5, 3, 2)).requires_grad_()
    state = leaf(2, 5, 3, 2) if initial else None
    return (leaf(2, 9, 15), residues, poles, leaf(5), state, spans, False, keep, "cpu")


SPANS = torch.tensor([[0, 9], [2, 7]])
CASES = {
    "scan": (scan._forward, lambda: scan_arguments(True, SPANS)),
    "scan without gate": (scan._forward, lambda: scan_arguments(False, None)),
    "conv": (conv._forward, lambda: (leaf(2, 9, 5), leaf(2, 5, 4), leaf(2, 5), SPANS, False, "cpu")),
    "long conv": (long._forward, lambda: long_arguments(True, SPANS)),
    "long conv from nothing": (long._forward, lambda: long_arguments(False, None)),
    "norm": (norm._forward, lambda: (leaf(4, 6), leaf(4, 6), leaf(6), 1e-5, torch.float32, "cpu")),
    "norm alone": (norm._forward, lambda: (leaf(4, 6), None, leaf(6), 1e-5, torch.float32, "cpu")),
    "experts": (
        experts._forward,
        lambda: (leaf(6, 4), leaf(2, 8, 4), leaf(2, 8, 4), leaf(2, 4, 8), torch.tensor([3, 2]), True, "cpu"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_schema_fake_and_autograd_registration(case):
    operator, arguments = CASES[case]
    torch.library.opcheck(operator, arguments())


class _Alone(nn.Module):
    """A block from a plain hidden state to a plain hidden state."""

    def __init__(self, kind):
        super().__init__()
        self.block = Block(toy_run().model, kind, 0)

    def forward(self, x, spans, real):
        stream, branch, _ = self.block(None, x, spans, real)
        return stream + branch


def block_inputs():
    width = toy_run().model.d_model
    real = torch.ones(2, 21, dtype=torch.bool)
    real[1, 13:] = False
    return torch.randn(2, 21, width), spans_of(real), real


def gradients(function, module, x, spans, real):
    leaves = [x.requires_grad_(), *module.parameters()]
    y = function(x, spans, real)
    return [y, *torch.autograd.grad(y[real].square().sum(), leaves)]


@pytest.mark.parametrize("kind", ["Md", "Me", "Hd", "Ae"])
def test_a_block_compiles_whole_forward_and_backward(kind):
    module, inputs = _Alone(kind), block_inputs()
    compiled = torch.compile(module, fullgraph=True, backend=COMPILER)
    for got, wanted in zip(gradients(compiled, module, *inputs), gradients(module, module, *inputs), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["Md", "Me"])
def test_a_block_exports(kind):
    module, inputs = _Alone(kind).eval(), block_inputs()
    with torch.no_grad():
        program = torch.export.export(module, inputs)
        names = {str(node.target) for node in program.graph.nodes}
        assert {"umbel.selective_scan.default", "umbel.causal_conv.default", "umbel.grouped_mlp.default"} <= names
        torch.testing.assert_close(program.module()(*inputs), module(*inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["Md", "Me", "Hd", "Ae"])
def test_activation_checkpointing_changes_nothing(kind):
    module, inputs = _Alone(kind), block_inputs()

    def again(x, spans, real):
        return checkpoint(module, x, spans, real, use_reentrant=False)

    for got, wanted in zip(gradients(again, module, *inputs), gradients(module, module, *inputs), strict=True):
        assert torch.equal(got, wanted)


# torch's compiler makes an instance of an autograd.Function, against which torch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["auto", "fft", "recurrent"])
def test_the_long_convolution_compiles_whole_forward_and_backward(backend):
    def run(z, residues, poles, skip, state):
        return long_conv(z, residues, poles, skip, initial_state=state, spans=SPANS, backend=backend)

    leaves = list(long_arguments(True, None)[:5])
    compiled = torch.compile(run, fullgraph=True, backend=COMPILER)
    results = []
    for function in (compiled, run):
        y, last = function(*leaves)
        results.append([y, last, *torch.autograd.grad(y.square().sum() + last.sum(), leaves)])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
