"""How a backend is held against the definition: outputs and every gradient, by name."""

import torch

# Parameters and states stay in float32 when activations are halved.
IN_FLOAT32 = ("A", "D", "dt_bias", "initial_state", "residues", "poles", "skip")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}


def outputs_and_gradients(operator, tensors, upstream, **settings):
    """Give what an operator gives, one or two tensors, and its gradients against ``upstream``, all named."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    given = _tuple(operator(**leaves, **settings))
    upstream = [g.to(y) for g, y in zip(upstream, given, strict=True)]
    gradients = torch.autograd.grad(given, list(leaves.values()), upstream)
    named = {f"output {i}": y.detach() for i, y in enumerate(given)}
    return named | {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}


def compare(operator, tensors, backend, dtype, device="cpu", **settings):
    """Run the definition in float64 and ``backend`` in ``dtype``, from the same numbers, rounded to ``dtype``.

    Gives what the backend gave, and its relative errors, both by name; None among the tensors is left out.
    """
    tensors = {name: x for name, x in tensors.items() if x is not None}
    narrow = dtype in (torch.float16, torch.bfloat16)
    rounded = {n: x.to(torch.float32 if narrow and n in IN_FLOAT32 else dtype) for n, x in tensors.items()}
    exact = {name: x.double() for name, x in rounded.items()}
    with torch.no_grad():
        given = _tuple(operator(**exact, **settings, backend="reference"))
    upstream = [torch.randn(y.shape, dtype=torch.float64).to(dtype).double() for y in given]
    wanted = outputs_and_gradients(operator, exact, upstream, backend="reference", **settings)
    moved = {name: x.to(device) for name, x in rounded.items()}
    there = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in settings.items()}
    got = outputs_and_gradients(operator, moved, upstream, backend=backend, **there)
    return got, {name: _error(got[name], want) for name, want in wanted.items()}


def errors(operator, tensors, backend, dtype, **settings):
    """Give the relative errors of :func:`compare` alone."""
    return compare(operator, tensors, backend, dtype, **settings)[1]


def assert_agrees(operator, tensors, backend="triton", dtype=torch.float32, device="cpu", **settings):
    """Hold a backend against the definition at the tolerance of its dtype; give what it gave."""
    got, found = compare(operator, tensors, backend, dtype, device, **settings)
    assert_close(found, TOLERANCE[dtype])
    return got


def assert_close(found, limit):
    worst = {name: error for name, error in found.items() if not error <= limit}
    assert not worst, f"beyond {limit:g}: " + ", ".join(f"{name} {error:.1e}" for name, error in worst.items())


def _tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _error(got, wanted):
    assert got.shape == wanted.shape
    assert torch.isfinite(got).all()
    if not wanted.numel() or not wanted.any():
        return float(got.abs().sum())
    return float((got.double().cpu() - wanted).norm() / wanted.norm())
