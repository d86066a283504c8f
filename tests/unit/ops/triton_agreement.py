"""How a backend is held against the definition: outputs and every gradient, by name."""

import torch

# Parameters and states stay in float32 when activations are halved.
IN_FLOAT32 = ("A", "D", "dt_bias", "initial_state")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}


def outputs_and_gradients(operator, tensors, upstream, **settings):
    """Give what an operator gives, one or two tensors, and its gradients against ``upstream``, all named."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
    given = operator(**leaves, **settings)
    given = given if isinstance(given, tuple) else (given,)
    upstream = [g.to(y) for g, y in zip(upstream, given, strict=True)]
    gradients = torch.autograd.grad(given, list(leaves.values()), upstream)
    named = {f"output {i}": y.detach() for i, y in enumerate(given)}
    return named | {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}


def assert_agrees(operator, tensors, backend="triton", dtype=torch.float32, device="cpu", **settings):
    """Hold a backend on tensors rounded to ``dtype`` against the reference on the same numbers in float64."""
    rounded = {name: x.to(torch.float32 if name in IN_FLOAT32 else dtype) for name, x in tensors.items()}
    exact = {name: x.double() for name, x in rounded.items()}
    with torch.no_grad():
        given = operator(**exact, **settings, backend="reference")
    given = given if isinstance(given, tuple) else (given,)
    upstream = [torch.randn(y.shape, dtype=torch.float64).to(dtype).double() for y in given]
    wanted = outputs_and_gradients(operator, exact, upstream, backend="reference", **settings)
    moved = {name: x.to(device) for name, x in rounded.items()}
    there = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in settings.items()}
    got = outputs_and_gradients(operator, moved, upstream, backend=backend, **there)
    for name, want in wanted.items():
        assert got[name].shape == want.shape, name
        error = (got[name].double().cpu() - want).norm() / want.norm().clamp(min=1e-30)
        assert error < TOLERANCE[dtype], f"{name}: relative error {error:.1e}"
    return got
