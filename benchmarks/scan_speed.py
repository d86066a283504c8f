"""Genome scans: ``umbel scan`` against the obvious way, in turns on the same bases.

The obvious way goes from window to window, half a window at a time, one window and one strand in each pass, and keeps
the middle of what it gets. Before anything is timed, both must say the same of the bases that lie in the middle of a
window of either.

    python benchmarks/scan_speed.py RUN GENOME [-o benchmarks/results/scan_speed_cpu.json]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from measure import facts, in_turns, ratio, write_rows

from umbel.genome.reference import Reference
from umbel.predict.phases import N_PASSES, strided
from umbel.predict.predictor import Predictor, load
from umbel.predict.scan.expert_tracks import ExpertTracks
from umbel.predict.scan.readouts import Readout
from umbel.predict.scan.stitching import read_stretch
from umbel.predict.scan.windows import Tiling, stretches
from umbel.predict.scan.zero_shot import ZeroShot, base_scores

BIN_BP = 50


def by_scan(readout: Readout, reference: Reference, contig: str, start: int, end: int, tiling: Tiling) -> np.ndarray:
    found = stretches(contig, reference.lengths[contig], np.array([[start, end]]), tiling, end - start)
    return np.concatenate([read_stretch(readout, reference, each, lambda _: None).values for each in found], axis=1)


def starts_of(start: int, end: int, window: int) -> list[int]:
    return list(range(start - window // 4, end, window // 2))


def obvious_zero_shot(model: Predictor, reference: Reference, contig: str, start: int, end: int) -> np.ndarray:
    window, rows = model.window_bp, []
    for first in starts_of(start, end, window):
        codes = reference.fetch(contig, first, first + window)
        phases, total = strided(window, N_PASSES), np.zeros((window, 4))
        for strand in ("forward", "revcomp"):
            for phase in range(N_PASSES):
                hidden = (phases == phase) & (codes < 4)
                total[hidden] += model.masked_log_probs([codes], [hidden], strand)[0]
        rows.append(base_scores((total / 2).astype(np.float32), codes)[:, window // 4 : 3 * window // 4])
    return np.concatenate(rows, axis=1)[:, : end - start]


def obvious_experts(
    readout: ExpertTracks, reference: Reference, contig: str, start: int, end: int, window: int
) -> np.ndarray:
    rows = []
    for first in starts_of(start, end, window):
        codes = reference.fetch(contig, first, first + window)
        n = window // 4 // readout.step_bp
        rows.append(readout.read([codes])[0].values[:, n : 3 * n])
    return np.concatenate(rows, axis=1)


def run(
    checkpoint: Path, genome: Path, n_windows: int, rounds: int, device: str, commit: str | None
) -> dict[str, object]:
    model, rows = load(checkpoint, device), []
    with Reference.open(genome) as reference:
        contig = max(reference.lengths, key=reference.lengths.__getitem__)
        start = reference.lengths[contig] // 2 // (BIN_BP * 20) * BIN_BP * 20
        window = model.window_bp
        end = start + n_windows * (window // 2)
        tiling = Tiling(window, window // 4)
        zero_shot = ZeroShot(model)
        here = (reference, contig, start, end)
        ours, plain = by_scan(zero_shot, *here, tiling), obvious_zero_shot(model, *here)
        rows.append(
            row(
                "zero-shot",
                end - start,
                model,
                {
                    "scan": lambda: by_scan(zero_shot, *here, tiling),
                    "obvious": lambda: obvious_zero_shot(model, *here),
                },
                rounds,
                difference(ours, plain),
            )
        )
        if model.moe_layers:
            # Windows of whole bins, as long as training had them.
            long = window // BIN_BP // 4 * 4 * BIN_BP
            experts = ExpertTracks(model, bin_bp=BIN_BP)
            steps = Tiling(long, long // 4, BIN_BP)
            end = start + n_windows * (long // 2)
            there = (reference, contig, start, end)
            rows.append(
                row(
                    "experts",
                    end - start,
                    model,
                    {
                        "scan": lambda: by_scan(experts, *there, steps),
                        "obvious": lambda: obvious_experts(experts, *there, long),
                    },
                    rounds,
                    None,
                )
            )
    return {
        **facts(model.device, commit),
        "model": {"parameters": model.n_parameters, "window_bp": window},
        "rows": rows,
    }


def difference(ours: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    """Give mean and largest difference: the windows are not the same, so it is the disagreement of windows."""
    apart = np.abs(ours.astype(np.float64) - plain)
    found = {"mean": round(float(np.nanmean(apart)), 5), "max": round(float(np.nanmax(apart)), 4)}
    if not np.isfinite(found["mean"]) or found["mean"] > 0.25:
        raise SystemExit(f"scan and plain loop disagree, so nothing is timed: {found}")
    return found


def row(track, n_bases, model, cases, rounds, apart):
    seconds = in_turns(cases, rounds, model.device, budget_s=120)
    speed = {
        name: {
            "median_mbp_per_s": round(n_bases / sorted(each)[len(each) // 2] / 1e6, 6),
            "best_mbp_per_s": round(n_bases / min(each) / 1e6, 6),
        }
        for name, each in seconds.items()
    }
    times = ratio(seconds["obvious"], seconds["scan"])
    return {
        "track": track,
        "n_bases": n_bases,
        "rounds": len(seconds["scan"]),
        **speed,
        "times_as_fast": times,
        "apart": apart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("genome", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results/scan_speed_cpu.json"))
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--commit")
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    results = run(told.checkpoint, told.genome, told.windows, told.rounds, told.device, told.commit)
    write_rows(told.out, results)
    for each in results["rows"]:
        print(each)


if __name__ == "__main__":
    main()
