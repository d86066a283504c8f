"""What it costs to record routing: inside a recording, all that is not the forward pass, over the forward pass.

Both are timed in one run, round by round, because a shared machine drifts by more than what is measured.

    python benchmarks/expert_recording.py RUN GENOME GFF3 [-o benchmarks/results/expert_recording_cpu.json]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from measure import facts, per_token, ratio, write_rows

from umbel.evaluate.experts.ours import OurModel
from umbel.evaluate.experts.recording import RecordSettings, record
from umbel.evaluate.experts.sources.making import genome_source
from umbel.evaluate.experts.stretches import Reading
from umbel.predict.predictor import Predictor, load


class Clock:
    """Sums the seconds that a predictor spends in its passes, without those of who looks at the routing."""

    def __init__(self, predictor: Predictor):
        self.forward = 0.0
        visit_routings = predictor.visit_routings

        def timed(codes, visit, layer=None):
            looking = 0.0

            def look(routings, rows):
                nonlocal looking
                began = time.perf_counter()
                visit(routings, rows)
                looking += time.perf_counter() - began

            began = time.perf_counter()
            visit_routings(codes, look, layer)
            self.forward += time.perf_counter() - began - looking

        predictor.visit_routings = timed


def run(
    checkpoint: Path, genome: Path, gff3: Path, contig: str, stretch_bp: int, n_stretches: int, rounds: int, device: str
) -> dict[str, object]:
    predictor = load(checkpoint, device)
    model = OurModel(predictor)
    contigs = [contig] if contig else []
    with (
        genome_source(genome, gff3, contigs=contigs, stretch_bp=stretch_bp, n_stretches=n_stretches) as source,
        tempfile.TemporaryDirectory() as folder,
    ):
        tiling = Reading().tiling(model)
        bases = sum(w.end - w.start for i in range(len(source)) for w in tiling.windows(len(source.stretch(i).content)))
        clock = Clock(predictor)
        forward: dict[str, list[float]] = {}
        rest: dict[str, list[float]] = {}
        for done in range(rounds + 1):
            for n_shifts in (0, 499, 999):
                name = f"labels turned {n_shifts} times"
                clock.forward = 0.0
                began = time.perf_counter()
                record(model, source, Path(folder) / f"{done}-{n_shifts}", RecordSettings(n_shifts=n_shifts))
                spent = time.perf_counter() - began
                # The first round warms up.
                if done:
                    forward.setdefault(name, []).append(clock.forward)
                    rest.setdefault(name, []).append(spent - clock.forward)
        return {
            "facts": facts(torch.device(device)),
            "settings": {
                "n_parameters": predictor.n_parameters,
                "window": model.window,
                "sites": len(model.sites),
                "n_experts": predictor.n_experts,
                "top_k": predictor.config.top_k,
                "labellings": [labelling.name for labelling in source.labellings],
                "stretches": len(source),
                "bases_in_windows": bases,
            },
            "forward_us_per_base": {name: per_token(found, bases) for name, found in forward.items()},
            "rest_over_forward": {name: ratio(found, forward[name]) for name, found in rest.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("genome", type=Path)
    parser.add_argument("gff3", type=Path)
    parser.add_argument("--contig", default="")
    parser.add_argument("--stretch-bp", type=int, default=65_536)
    parser.add_argument("--n-stretches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results/expert_recording_cpu.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = run(
        *(args.checkpoint, args.genome, args.gff3, args.contig),
        *(args.stretch_bp, args.n_stretches, args.rounds, args.device),
    )
    write_rows(args.out, found)
    print(found["rest_over_forward"])


if __name__ == "__main__":
    main()
