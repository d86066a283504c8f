"""Measure everything that mini's card tells, one script after another; finished results are not made again.

    python benchmarks/mini/all.py CKPT --run RUN --data DIR --work FOLDER

A result is finished if its JSON is there and tells of these weights. ``--scale 0.5`` takes half as many examples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from held_out import HERE, load

SIZES = {
    "regions": {"n-windows": 300, "n-gene-windows": 400, "n-chr5-windows": 300},
    "sites": {"n-train": 800, "n-test": 400},
    "effects": {"n-per-class": 300},
    "atlas": {"n-stretches": 16, "n-ablated": 32},
    "strength": {"n-train": 500, "n-test": 400},
}
WITH_WORK = ("effects", "atlas", "strength")


def is_done(path: Path, weights_hash: str, sizes: dict[str, int]) -> bool:
    """Whether a result is there, of these weights and of this size."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    options = found.get("options", {})
    same = all(options.get(key.replace("-", "_")) == value for key, value in sizes.items())
    return same and found.get("model", {}).get("weights_hash") == weights_hash


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("checkpoint")
    words.add_argument("--run", type=Path, help="run folder, for the loss against bases seen")
    words.add_argument("--fp32", help="the checkpoint before its weights were rounded")
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--work", type=Path, required=True)
    words.add_argument("--results", type=Path, default=HERE.parent / "results")
    words.add_argument("--contigs", default="")
    words.add_argument("--scale", type=float, default=1.0)
    words.add_argument("--only", nargs="*", choices=[*SIZES, "scaling"])
    words = words.parse_args()
    weights_hash = load(words.checkpoint, "cpu").weights_hash
    began = time.perf_counter()
    failed = []
    for name in words.only or [*SIZES, "scaling"]:
        out = words.results / f"mini_{name}.json"
        if name == "scaling":
            if words.run is None:
                continue
            command = [str(words.run), "-o", str(out)]
        else:
            sizes = {key: max(20, round(value * words.scale)) for key, value in SIZES[name].items()}
            if is_done(out, weights_hash, sizes):
                print(f"{name}: {out} is there", flush=True)
                continue
            # Work in progress belongs to these weights.
            command = [words.checkpoint, "--data", str(words.data), "-o", str(out), "--contigs", words.contigs]
            command += [part for key, value in sizes.items() for part in (f"--{key}", str(value))]
            command += ["--work", str(words.work / weights_hash[:12] / name)] if name in WITH_WORK else []
            command += ["--fp32", words.fp32] if name == "regions" and words.fp32 else []
        print(f"{name}: {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py"), *command], check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s since the start", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}. The same command goes on with these.")


if __name__ == "__main__":
    main()
