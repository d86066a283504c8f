"""Time six networks of one width and depth beside dense attention, along length and batch size.

Use: python benchmarks/architectures.py -o OUT.json [--device cpu] [--lengths 512,...] [--batches 1,...] [--quick]

Dense attention, pure Hyena, a network like StripedHyena, and the three published HyenaMoE; 768 wide, 12 layers, random
weights, inference, backbones alone. On a CPU one period of the pattern (4 layers) is timed and scaled to 12, which the
output says; a GPU runs all 12, in bf16. Networks take turns in every round, and ratios are of one round. A pass that
would take longer than the time allowed is not run; the row then says how long it would take, by the operations and
the rate of the length before. Operations are counted, not measured (umbel.model.flops), head included.

Before anything is timed, the ways of computing a HyenaLite filter must agree, and a packed sequence must come out as
it does alone, in every network; else nothing is written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import torch

from umbel.config import ModelConfig
from umbel.model.backbone import Backbone, count_parameters
from umbel.model.flops import count_flops
from umbel.model.hyena import HyenaLite
from umbel.ops.devices import autocast_dtype, autocast_to, resolve_device
from umbel.ops.long_conv import long_conv, offered
from umbel.train.recipes import hyenamoe_expressive, hyenamoe_fast, hyenamoe_standard

DENSE = "dense attention"
PUBLISHED = replace(hyenamoe_fast().model, max_tokens=0)
NETWORKS: dict[str, ModelConfig] = {
    DENSE: replace(PUBLISHED, pattern="Ad"),
    "pure Hyena": replace(PUBLISHED, pattern="Hd"),
    # As many attention layers as HyenaMoE-Fast, so that the two differ in experts and short convolutions alone.
    "like StripedHyena": replace(PUBLISHED, pattern="Hd Hd Hd Ad", hyena_taps=3),
    "hyenamoe_fast": PUBLISHED,
    "hyenamoe_standard": replace(hyenamoe_standard().model, max_tokens=0),
    "hyenamoe_expressive": replace(hyenamoe_expressive().model, max_tokens=0),
}
PERIOD = 4
FLOPS_LENGTHS = [2**n for n in range(9, 18)]
AT = 2048
"""Length at which batch sizes are compared."""
TOLERANCE = 2e-5


def made_up(batch: int, length: int, device: torch.device) -> torch.Tensor:
    return torch.randint(28, 92, (batch, length), generator=torch.Generator().manual_seed(length)).to(device)


def precision(device: torch.device) -> Any:
    return autocast_to(device, autocast_dtype(device, "auto"))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@torch.no_grad()
def gate(networks: dict[str, Backbone], device: torch.device) -> dict[str, float]:
    """Compare what must agree, in float32; give the relative errors."""
    torch.manual_seed(0)
    mixer, length = HyenaLite(PUBLISHED).to(device), 700
    z = torch.randn(2, length, 3 * PUBLISHED.d_model, device=device)
    weights = mixer.along.residues, mixer.along.poles(), mixer.skip
    ways = [name for name, reason in offered(z, *weights).items() if reason is None and name != "reference"]
    found = {name: long_conv(z, *weights, backend=name)[0] for name in ("auto", *ways)}
    short = long_conv(z[:, :100], *weights, backend="reference")[0]
    errors = {f"HyenaLite, {name} against fft": distance(y, found["fft"]) for name, y in found.items() if name != "fft"}
    errors["HyenaLite, fft against its definition"] = distance(found["fft"][:, :100], short)
    ids, segments = made_up(1, 350, device), torch.zeros(1, 350, dtype=torch.int64, device=device)
    segments[:, 150:] = 1
    for name, network in networks.items():
        packed = network(ids, segment_ids=segments).hidden
        alone = torch.cat([network(ids[:, :150]).hidden, network(ids[:, 150:]).hidden], 1)
        errors[f"{name}, packed against alone"] = distance(packed, alone)
    return errors


def flops() -> dict[str, dict[str, Any]]:
    """Count operations for one token along FLOPS_LENGTHS; ``dense_over`` is dense attention's over its own."""
    found = {name: [count_flops(config, length) for length in FLOPS_LENGTHS] for name, config in NETWORKS.items()}
    dense = [one.total for one in found[DENSE]]
    return {
        name: {
            **{part: getattr(counts[0], part) for part in ("matrices", "long_conv", "scan")},
            **{part: [getattr(one, part) for one in counts] for part in ("attention", "long_conv_fft", "total")},
            "dense_over": [round(a / one.total, 3) for a, one in zip(dense, counts, strict=True)],
            "dense_over_fft": [round(a / one.total_fft, 3) for a, one in zip(dense, counts, strict=True)],
        }
        for name, counts in found.items()
    }


class Clock:
    """Times networks in turns, and knows from the last time how long the next will take."""

    def __init__(self, networks: dict[str, Backbone], device: torch.device, rounds: int, pass_s: float):
        self.networks, self.device, self.rounds, self.pass_s = networks, device, rounds, pass_s
        self.known: dict[str, tuple[float, float]] = {}

    def work(self, name: str, batch: int, length: int) -> float:
        """Count the operations of a whole pass."""
        return batch * length * count_flops(self.networks[name].config, length).total

    def expected(self, name: str, batch: int, length: int) -> float:
        """Scale the last time by the operations; 0 where there was none."""
        seconds, done = self.known.get(name, (0.0, 1.0))
        return seconds * self.work(name, batch, length) / done

    def row(self, batch: int, length: int) -> dict[str, Any]:
        """Time one batch size and length in every network that has the time."""
        ids = made_up(batch, length, self.device)
        expected = {name: self.expected(name, batch, length) for name in self.networks}
        cases: dict[str, Callable[[], object]] = {
            name: lambda network=network: network(ids)
            for name, network in self.networks.items()
            if expected[name] <= self.pass_s
        }
        # Long passes need no warming up, and cannot afford it.
        warm_up = self.device.type == "cuda" or max(expected[name] for name in [*cases, DENSE]) < self.pass_s / 10
        with torch.no_grad(), precision(self.device):
            found = measure.in_turns(cases, self.rounds, self.device, self.pass_s, warm_up=warm_up)
        told: dict[str, Any] = {}
        for name, network in self.networks.items():
            scale = PUBLISHED.n_layers / network.config.n_layers
            if name not in found:
                told[name] = {"not_run": f"would take about {expected[name] * scale:,.0f} s"}
                continue
            seconds = [s * scale for s in found[name]]
            self.known[name] = statistics.median(found[name]), self.work(name, batch, length)
            median, tokens = statistics.median(seconds), batch * length
            operations = count_flops(replace(network.config, n_layers=PUBLISHED.n_layers), length).total
            told[name] = {
                "us_per_token": measure.per_token(seconds, tokens),
                "tokens_per_s": round(tokens / median),
                "latency_s": round(median, 4),
                "gflop_per_s": round(operations * tokens / median / 1e9, 1),
            }
            if DENSE in found:
                told[name]["times_as_fast"] = measure.ratio(found[DENSE], found[name])
        return {"batch": batch, "length": length, "networks": told}


def peak_memory(name: str, lengths: list[int], layers: int, device: torch.device) -> list[dict[str, Any]]:
    """Run one pass of each length, shortest first, in a process of their own; give its largest sizes."""
    code = (
        "import sys, json, torch; sys.path.insert(0, 'benchmarks'); import architectures as a; "
        f"print(json.dumps(a.passes({name!r}, {lengths}, {layers}, {str(device)!r}, {torch.get_num_threads()})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def passes(name: str, lengths: list[int], layers: int, place: str, threads: int) -> list[dict[str, Any]]:
    torch.set_num_threads(threads)
    device = torch.device(place)
    network = Backbone(replace(NETWORKS[name], n_layers=layers)).eval().to(device)

    def largest() -> float:
        return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else measure.resident_gb()

    rows = []
    with torch.no_grad(), precision(device):
        network(made_up(1, 64, device))
        before = largest()
        for length in sorted(lengths):
            network(made_up(1, length, device))
            peak = largest()
            rows.append({"network": name, "length": length, "peak_gb": round(peak, 3), "pass_gb": peak - before})
    return rows


def memory(rows: list[dict[str, Any]], names: list[str], layers: int, device: torch.device) -> list[dict[str, Any]]:
    """Tell each network's peak at the common length and at the longest that ran, beside dense attention's."""
    found = []
    for name in names:
        ran = [row["length"] for row in rows if "us_per_token" in row["networks"][name]]
        found += peak_memory(name, sorted({min(AT, max(ran)), max(ran)}), layers, device)
    dense = {row["length"]: row["pass_gb"] for row in found if row["network"] == DENSE}
    for row in found:
        # A pass of a short sequence fits into what the first small one has left.
        if dense.get(row["length"], 0) > 0.01:
            row["over_dense"] = round(row["pass_gb"] / dense[row["length"]], 2)
        row["pass_gb"] = round(row["pass_gb"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lengths", default="512,2048,8192,32768,131072")
    parser.add_argument("--batches", default="1,2,4,8,16,32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pass-s", type=float, default=25.0, help="no single pass (of the layers timed) is to take longer"
    )
    parser.add_argument("--batch-s", type=float, default=12.0, help="the same along the batch sizes")
    parser.add_argument("--layers", type=int, help="left out: one period of 4 on a CPU, all 12 on a GPU")
    parser.add_argument("--quick", action="store_true", help="see that it works, in half a minute")
    parser.add_argument("--commit", help="where git is not at hand")
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    lengths, batches = ([int(n) for n in text.split(",")] for text in (chosen.lengths, chosen.batches))
    if chosen.quick:
        lengths, batches, chosen.rounds, chosen.pass_s, chosen.batch_s = [64, 128, 131072], [1, 2], 2, 2.0, 2.0
    layers = chosen.layers or (PERIOD if device.type == "cpu" else PUBLISHED.n_layers)
    torch.manual_seed(0)
    networks = {name: Backbone(replace(config, n_layers=layers)).eval().to(device) for name, config in NETWORKS.items()}
    results: dict[str, Any] = {**measure.facts(device, chosen.commit), "dtype": str(autocast_dtype(device, "auto"))}
    results |= {"layers": PUBLISHED.n_layers, "layers_timed": layers, "width": PUBLISHED.d_model}
    results["networks"] = {
        name: {"pattern": c.pattern, "hyena_taps": c.hyena_taps, "parameters": count_parameters(c)}
        for name, c in NETWORKS.items()
    }
    results["gate"] = gate(networks, device)
    wrong = {name: error for name, error in results["gate"].items() if not error < TOLERANCE}
    if wrong:
        sys.exit(f"what must agree does not, so nothing is timed: {wrong}")
    results |= {"flops_lengths": FLOPS_LENGTHS, "flops": flops(), "lengths": [], "batches": []}

    def record(part: str, found: dict[str, Any]) -> None:
        results[part].append(found)
        print(part, json.dumps(found), flush=True)
        measure.write_rows(chosen.out, results)

    clock = Clock(networks, device, chosen.rounds, chosen.pass_s)
    for length in lengths:
        record("lengths", clock.row(1, length))
    clock = Clock(networks, device, chosen.rounds, chosen.batch_s)
    for batch in batches:
        record("batches", clock.row(batch, min(AT, lengths[0] if chosen.quick else AT)))
    del clock, networks
    results["memory"] = memory(results["lengths"], list(NETWORKS)[: 2 if chosen.quick else None], layers, device)
    measure.write_rows(chosen.out, results)


if __name__ == "__main__":
    main()
