"""Time what a newcomer waits for: importing umbel, loading ``mini``, the first variant, the second.

Use: python benchmarks/mini/first_minute.py [-o benchmarks/results/mini_first_minute_cpu.json] [--rounds 3]

Each round is three processes of their own. ``cold``: no compiled kernel on disk, as right after installing (numba
compiles each kernel once and keeps it). ``warm``: kernels on disk. ``without_background``: as warm, the bare score of
the variant, not compared with random ones. ``import`` is ``import umbel`` and what its first use imports (torch,
transformers).
Other work on the machine is told by its load at the start of each round; seconds are wall-clock, with processor
seconds beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
DATA = ROOT / "examples" / "data"
STEPS = ("import", "load", "first_variant", "second_variant")


def one_life(n_background: int, threads: int) -> dict[str, Any]:
    """Do what a newcomer does, in this process, and time each step."""
    import time

    records = (DATA / "accession.vcf").read_text().splitlines(keepends=True)
    header = [line for line in records if line.startswith("#")]
    # Neighbours on one contig, as in any sorted file.
    first, second = [line for line in records if not line.startswith("#")][:2]
    found: dict[str, Any] = {}
    wall, processor = time.perf_counter(), time.process_time()

    def lap(step: str) -> None:
        nonlocal wall, processor
        now, used = time.perf_counter(), time.process_time()
        found[step] = {"seconds": round(now - wall, 3), "cpu_seconds": round(used - processor, 3)}
        wall, processor = time.perf_counter(), time.process_time()

    import umbel
    import umbel.predict.predictor
    import umbel.predict.variants.scoring
    from umbel.predict.variants.settings import VariantSettings

    lap("import")
    import torch

    if threads:
        torch.set_num_threads(threads)
    wall, processor = time.perf_counter(), time.process_time()
    model = umbel.load("mini", "cpu")
    lap("load")
    settings = VariantSettings(background=n_background)
    with tempfile.TemporaryDirectory() as folder:
        for step, line in (("first_variant", first), ("second_variant", second)):
            vcf = Path(folder) / f"{step}.vcf"
            vcf.write_text("".join(header) + line)
            wall, processor = time.perf_counter(), time.process_time()
            table = model.score_variants(vcf, DATA / "thaliana.fa.gz", settings=settings)
            lap(step)
            if table["llr"][0].as_py() is None:
                raise SystemExit(f"{step} has no score, so there is nothing to time")
    facts = {"parameters": model.n_parameters, "window_bp": model.window_bp, "weights_sha256": model.weights_hash}
    return found | {"model": facts, "threads": torch.get_num_threads()}


def life(n_background: int, threads: int, cache: str | None) -> dict[str, Any]:
    words = [sys.executable, str(HERE), "--life", str(n_background), "--threads", str(threads)]
    environment = os.environ | ({} if cache is None else {"NUMBA_CACHE_DIR": cache})
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def summary(lives: list[dict[str, Any]]) -> dict[str, Any]:
    def over(step: str, key: str) -> dict[str, float]:
        values = [one[step][key] for one in lives]
        return {"median": round(statistics.median(values), 2), "min": min(values), "max": max(values)}

    found = {step: {key: over(step, key) for key in ("seconds", "cpu_seconds")} for step in STEPS}
    both = [one["load"]["seconds"] + one["first_variant"]["seconds"] for one in lives]
    found["load_and_first_variant_seconds"] = {  # type: ignore[assignment]
        "median": round(statistics.median(both), 2),
        "min": round(min(both), 2),
        "max": round(max(both), 2),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "benchmarks/results/mini_first_minute_cpu.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--background", type=int, default=100, help="Random variants to compare with: 100 is usual.")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes.")
    parser.add_argument("--life", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.life is not None:
        print(json.dumps(one_life(options.life, options.threads)))
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import measure
    import torch

    lives: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": [], "without_background": []}
    loads = []
    # Fills the cache, and reads every file once.
    life(options.background, options.threads, None)
    for _ in range(options.rounds):
        loads.append(round(os.getloadavg()[0], 2))
        with tempfile.TemporaryDirectory() as empty:
            lives["cold"].append(life(options.background, options.threads, empty))
        lives["warm"].append(life(options.background, options.threads, None))
        lives["without_background"].append(life(0, options.threads, None))
    about = lives["warm"][0]
    results = measure.facts(torch.device("cpu")) | {
        "threads": about["threads"],
        "cores": os.cpu_count(),
        "load_before_rounds": loads,
        "rounds": options.rounds,
        "background": options.background,
        "model": about["model"],
        **{name: summary(found) for name, found in lives.items()},
    }
    measure.write(options.out, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
