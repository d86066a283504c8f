"""Time the published model's shape against the matrix products it cannot do without, and against its peers.

Use: python benchmarks/model.py -o OUT.json [--lengths 512,2048,8192,32768]

The floor replays the matrix products of a pass (in_proj, x_proj, out_proj and the MLPs; same shapes, weights and
pieces) just before and after each pass. Peers have random weights and the same shape, and are timed on few layers
and scaled to all (said in the output). Before anything is timed, the model must agree with the slow way through its
own layers, and one direction of the mixer with transformers' Mamba; else nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.model import inference
from umbel.model.backbone import Backbone
from umbel.model.bimamba import BiMamba, Direction
from umbel.model.layers import SwiGLU
from umbel.model.moe import MoE
from umbel.ops import backends

CPU = torch.device("cpu")
CONFIG = ModelConfig()
AGRO_NT = {"hidden_size": 1500, "num_attention_heads": 20, "intermediate_size": 5120, "layers": 40, "bases_a_token": 6}
"""Mendoza-Revilla et al. 2024, AgroNT: 40 layers of width 1500 with 20 heads, 6-mers."""


def layer_weights(block: Any) -> list[tuple[str, Tensor]]:
    """List the products of a layer for one token: each as the name of its input and its weight (out, in)."""
    mixer, ffn = block.mixer, block.ffn
    one = [w[0] for w in (ffn.gate, ffn.up, ffn.down)] if isinstance(ffn, MoE) else None
    gate, up, down = one or [m.weight for m in (ffn.gate, ffn.up, ffn.down)]
    products = [("width", mixer.in_proj.weight), ("inner", mixer.along.x_proj.weight)]
    products += [("inner", mixer.against.x_proj.weight), ("inner", mixer.out_proj.weight)]
    return [*products, ("width", gate), ("width", up), ("hidden", down)]


def floor(backbone: Backbone, length: int) -> Callable[[], None]:
    """Give a function that does the products of a forward pass and nothing else, in pieces and with their memory."""
    piece, config = min(inference.PIECE, length), backbone.config
    sizes = {"width": config.d_model, "inner": config.d_inner, "hidden": config.ffn_hidden}
    inputs = {name: torch.randn(piece, size) for name, size in sizes.items()}
    layers = [layer_weights(block) for block in backbone.layers]
    outputs = {n: torch.empty(piece, n) for n in {w.shape[0] for layer in layers for _, w in layer}}

    def run() -> None:
        for products in layers:
            for start in range(0, length, piece):
                n = min(piece, length - start)
                for name, weight in products:
                    torch.mm(inputs[name][:n], weight.T, out=outputs[weight.shape[0]][:n])

    return run


def bracketed(run: Callable[[], object], base: Callable[[], object], rounds: int, budget_s: float) -> dict[str, Any]:
    """Time ``base``, ``run``, ``base`` in every round; give both and the share of the time that ``base`` explains."""
    found = measure.in_turns({"before": base, "run": run, "after": base}, rounds, CPU, budget_s)
    under = [(a + b) / 2 for a, b in zip(found["before"], found["after"], strict=True)]
    return {"run": found["run"], "floor": under, "share": measure.ratio(under, found["run"])}


def their_mixers() -> list[nn.Module]:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = MambaConfig(hidden_size=CONFIG.d_model, state_size=CONFIG.d_state, use_mambapy=False)
    return [MambaMixer(config, layer_idx=0).eval() for _ in range(2)]


def copy_direction(theirs: nn.Module, ours: BiMamba, direction: Direction) -> None:
    with torch.no_grad():
        theirs.in_proj.weight.copy_(ours.in_proj.weight)
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.conv1d.weight.copy_(direction.conv_weight[:, None])
        theirs.conv1d.bias.copy_(direction.conv_bias)
        for name in ("x_proj", "dt_proj"):
            getattr(theirs, name).weight.copy_(getattr(direction, name).weight)
        theirs.dt_proj.bias.copy_(direction.dt_proj.bias)
        theirs.A_log.copy_(direction.A_log)
        theirs.D.copy_(direction.D)


def both_ways(mixers: list[nn.Module], x: Tensor) -> Tensor:
    """Run transformers' mixer along and against time, as a bidirectional model on it has to."""
    return mixers[0](x) + mixers[1](x.flip(1)).flip(1)


def gate() -> dict[str, float]:
    """Check the fast ways against the slow ones; give the relative errors."""
    torch.manual_seed(0)
    small = Backbone(replace(CONFIG, n_layers=2)).eval()
    ids = torch.randint(7, 11, (1, 700))
    slow = small(ids).hidden.detach()
    mixer, peers = BiMamba(CONFIG), their_mixers()
    for theirs, direction in zip(peers, (mixer.along, mixer.against), strict=True):
        copy_direction(theirs, mixer, direction)
    x = torch.randn(1, 300, CONFIG.d_model)
    with torch.no_grad():
        fast, ours, wanted = small(ids).hidden, mixer(x), both_ways(peers, x)
    return {
        "inference against layers": float((fast - slow).norm() / slow.norm()),
        "mixer against transformers": float((ours - wanted).norm() / wanted.norm()),
    }


def whole(length: int, backbone: Backbone, rounds: int) -> dict[str, Any]:
    ids = torch.randint(7, 11, (1, length))
    found = bracketed(lambda: backbone(ids), floor(backbone, length), rounds, 120.0)
    ours = measure.per_token(found["run"], length)
    return {
        "length": length,
        "us_per_token": ours,
        "floor_us_per_token": measure.per_token(found["floor"], length),
        "floor_share": found["share"],
        "bases_per_s": round(1e6 / ours["median"]),
    }


def without_numba(length: int, layers: int = 2) -> dict[str, Any]:
    """Time few layers with and without numba, in turns: what an installation without it gets."""
    few = Backbone(replace(CONFIG, n_layers=layers)).eval()
    ids = torch.randint(7, 11, (1, length))

    def plain() -> None:
        backends.INSTALLED["numba"] = False
        try:
            few(ids)
        finally:
            backends.INSTALLED["numba"] = True

    found = measure.in_turns({"ours": lambda: few(ids), "plain": plain}, 3, CPU, 60.0)
    return {"length": length, "layers": layers, "over_ours": measure.ratio(found["plain"], found["ours"])}


def mixers(length: int) -> dict[str, Any]:
    """Time the mixer alone, by inference in pieces, beside transformers' for both directions."""
    block = Backbone(replace(CONFIG, n_layers=2)).eval().layers[0]
    w = inference.Workspace(CONFIG, length)
    x = torch.randn(1, length, CONFIG.d_model)
    along = inference._prepare(block.mixer.along)

    def ours() -> None:
        w.stream[:length] = 0
        w.branch[:length] = x[0]
        inference._go_against_time(w, block, length)
        w.state.zero_()
        for at in inference._pieces(length):
            inference._go_along_time(w, block.mixer, along, at, length)

    peers = their_mixers()
    found = measure.in_turns({"ours": ours, "transformers": lambda: both_ways(peers, x)}, 5, CPU, 90.0)
    return {
        "length": length,
        "us_per_token": {name: measure.per_token(s, length) for name, s in found.items()},
        "transformers_over_ours": measure.ratio(found["transformers"], found["ours"]),
    }


def experts(tokens: int, n_experts: int, top_k: int, hidden: int) -> dict[str, Any]:
    """Time an expert layer, router included, beside a dense MLP as wide as its active experts."""
    config = replace(CONFIG, n_experts=n_experts, top_k=top_k, ffn_hidden=hidden)
    moe, dense = MoE(config, 0), SwiGLU(CONFIG.d_model, top_k * hidden)
    x = torch.randn(1, tokens, CONFIG.d_model)
    row: dict[str, Any] = {"tokens": tokens, "experts": n_experts, "top_k": top_k, "expert_hidden": hidden}

    def forward_backward(module: nn.Module) -> None:
        y = module(x)
        y = y[0] if isinstance(y, tuple) else y
        torch.autograd.grad(y, list(module.parameters()), torch.ones_like(y), allow_unused=True)

    with torch.no_grad():
        found = measure.in_turns({"moe": lambda: moe(x), "dense": lambda: dense(x)}, 15, CPU, 20.0)
    row["forward_over_dense"] = measure.ratio(found["moe"], found["dense"])
    row["us_per_token"] = {name: measure.per_token(s, tokens) for name, s in found.items()}
    with torch.enable_grad():
        cases = {"moe": lambda: forward_backward(moe), "dense": lambda: forward_backward(dense)}
        found = measure.in_turns(cases, 9, CPU, 20.0)
    row["training_over_dense"] = measure.ratio(found["moe"], found["dense"])
    return row


def training(length: int, layers: int) -> dict[str, Any]:
    """Time forward and backward of few layers against three times the products of a forward pass."""
    few = Backbone(replace(CONFIG, n_layers=layers))
    ids = torch.randint(7, 11, (1, length))

    def step() -> None:
        few.zero_grad(set_to_none=True)
        few(ids).hidden.sum().backward()

    def products() -> None:
        with torch.no_grad():
            for _ in range(3):
                replay()

    replay = floor(few, length)
    with torch.enable_grad():
        found = bracketed(step, products, 7, 90.0)
    scale = CONFIG.n_layers / layers
    return {
        "length": length,
        "layers_timed": layers,
        "us_per_token": measure.per_token([s * scale for s in found["run"]], length),
        "floor_share": found["share"],
    }


def agro_nt(bases: int) -> dict[str, Any]:
    """Time two layers of a dense transformer of AgroNT's shape, scaled to its 40; per base, at most 1,024 tokens."""
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        vocab_size=4105,
        hidden_size=AGRO_NT["hidden_size"],
        num_hidden_layers=2,
        num_attention_heads=AGRO_NT["num_attention_heads"],
        intermediate_size=AGRO_NT["intermediate_size"],
        max_position_embeddings=1026,
        position_embedding_type="absolute",
        pad_token_id=1,
        mask_token_id=2,
    )
    model = EsmModel(config, add_pooling_layer=False).eval()
    tokens = min(1024, bases // AGRO_NT["bases_a_token"])
    ids = torch.randint(3, 4105, (1, tokens))
    found = measure.in_turns({"esm": lambda: model(ids)}, 5, CPU, 60.0)["esm"]
    scaled = [s * AGRO_NT["layers"] / 2 for s in found]
    return {"tokens": tokens, "us_per_base": measure.per_token(scaled, tokens * AGRO_NT["bases_a_token"])}


def peak_memory(length: int) -> dict[str, Any]:
    """Run one forward pass in a process of its own and read its largest resident size."""
    code = (
        "import sys, json, time, torch; sys.path.insert(0, 'benchmarks'); import model; "
        f"print(json.dumps(model.one_pass({length}, {torch.get_num_threads()})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def one_pass(length: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    backbone, ids = Backbone(CONFIG).eval(), torch.randint(7, 11, (1, length))
    with torch.inference_mode():
        backbone(ids[:, :64])
        before = measure.resident_gb()
        took = measure.seconds(lambda: backbone(ids), CPU)
    found = {"length": length, "peak_gb": round(measure.resident_gb(), 3), "before_gb": round(before, 3)}
    return {**found, "us_per_token": round(took / length * 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--lengths", default="512,2048,8192,32768")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    lengths = [int(n) for n in arguments.lengths.split(",")]
    results: dict[str, Any] = {**measure.facts(CPU), "gate": gate()}
    wrong = {name: error for name, error in results["gate"].items() if not error < 1e-5}
    if wrong:
        sys.exit(f"the fast way is wrong, so nothing is timed: {wrong}")
    backbone = Backbone(CONFIG).eval()

    def record(part: str, found: dict[str, Any]) -> None:
        results.setdefault(part, []).append(found)
        print(part, found, flush=True)
        measure.write(arguments.out, results)

    with torch.inference_mode():
        for length in lengths:
            record("inference", whole(length, backbone, arguments.rounds))
    with torch.no_grad():
        for length in lengths:
            record("memory", peak_memory(length))
        for length in lengths:
            record("mixer", mixers(length))
        for length in [n for n in lengths if n <= 2048]:
            record("without_numba", without_numba(length))
        for tokens in (1024, 8192):
            record("experts", experts(tokens, 4, 1, 1408))
            record("experts", experts(tokens, 64, 2, 352))
        for length in lengths:
            record("agro_nt", agro_nt(length))
    for length in [n for n in lengths if n <= 8192]:
        record("training", training(length, 4))


if __name__ == "__main__":
    main()
