"""What ``make demo`` runs: from two FASTA files to a trained model and its report, by the commands a user types.

Each step prints its command first. Finished steps are not repeated: run it again after an interruption, and it goes on.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo"
CORPUS, RUN, RESULTS = OUT / "corpus", OUT / "run", OUT / "results"
STEPS = [
    ["corpus", "build", HERE / "data" / "manifest.toml", "-o", CORPUS, "--recipe", "tiny"],
    ["corpus", "check", CORPUS, "--deep"],
    ["pretrain", "tiny", "--corpus", CORPUS, "--out", RUN],
    ["evaluate", RUN, "--corpus", CORPUS, "-o", RESULTS, "--set", "n_windows=400", "--set", "probe_n_per_class=200"],
    [
        "embed",
        RUN,
        HERE / "data" / "regions.bed",
        "--fasta",
        HERE / "data" / "thaliana.fa.gz",
        "-o",
        OUT / "embeddings.parquet",
    ],
]


def main() -> None:
    started = time.monotonic()
    for step in STEPS:
        words = [str(word.relative_to(HERE.parent)) if isinstance(word, Path) else word for word in step]
        print(f"\n$ umbel {shlex.join(words)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "umbel", *words], cwd=HERE.parent).returncode
        if code:
            sys.exit(code)
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {RESULTS / 'report.html'} in a browser.")


if __name__ == "__main__":
    main()
