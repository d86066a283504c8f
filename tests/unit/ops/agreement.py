"""How far a backend is from the definition, for outputs and every gradient by name."""

import torch


def errors(operator, inputs, backend, dtype, **settings):
    """Run ``operator(**inputs)`` by the definition in float64 and by ``backend`` in ``dtype``.

    Gives the relative error of every output and of the gradient of every input, by name. Inputs are rounded to
    ``dtype`` first, so that both start from the same numbers.
    """
    names = [name for name, x in inputs.items() if x is not None]
    exact = {name: x.to(dtype).double().requires_grad_() for name, x in inputs.items() if x is not None}
    given = {name: x.detach().to(dtype).requires_grad_() for name, x in exact.items()}
    wanted = _tuple(operator(**exact, backend="reference", **settings))
    got = _tuple(operator(**given, backend=backend, **settings))
    upstream = [torch.randn(y.shape, dtype=torch.float64).to(z.dtype).double() for y, z in zip(wanted, got, strict=True)]
    wanted_grads = torch.autograd.grad(wanted, list(exact.values()), upstream)
    pairs = zip(got, upstream, strict=True)
    got_grads = torch.autograd.grad(got, list(given.values()), [g.to(y.dtype) for y, g in pairs])
    found = {f"output {i}": _error(a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=True))}
    for name, a, b in zip(names, got_grads, wanted_grads, strict=True):
        found[f"gradient of {name}"] = _error(a, b)
    return found


def _tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _error(got, wanted):
    assert got.shape == wanted.shape
    assert torch.isfinite(got).all()
    if not wanted.numel() or not wanted.any():
        return float(got.detach().abs().sum())
    return float((got.detach().double() - wanted.detach()).norm() / wanted.detach().norm())


def assert_close(found, limit):
    worst = {name: error for name, error in found.items() if not error <= limit}
    assert not worst, f"beyond {limit:g}: " + ", ".join(f"{name} {error:.1e}" for name, error in worst.items())
