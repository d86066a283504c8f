"""What ``make demo`` runs: the model that comes with umbel, then one of your own, from two FASTA files to its report.

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
CORPUS, RUN, RESULTS, MINI = OUT / "corpus", OUT / "run", OUT / "results", OUT / "mini"
DATA = HERE / "data"
FASTA, GENES, REGIONS = DATA / "thaliana.fa.gz", DATA / "thaliana.gff3.gz", DATA / "regions.bed"
# mini was trained on this chromosome: these three show the commands, and measure nothing.
WITH_MINI = [
    ["variants", "mini", DATA / "accession.vcf", FASTA, "-o", MINI / "accession.vcf.gz"],
    ["embed", "mini", REGIONS, "--fasta", FASTA, "-o", MINI / "embeddings.parquet"],
    [
        *("experts", "mini", FASTA, GENES, "-o", MINI / "atlas"),
        *("--n-stretches", "4", "--stretch-bp", "16384", "--n-shifts", "99", "--ablate", "16"),
    ],
]
STEPS = [
    *WITH_MINI,
    ["corpus", "build", DATA / "manifest.toml", "-o", CORPUS, "--recipe", "tiny"],
    ["corpus", "check", CORPUS, "--deep"],
    ["pretrain", "tiny", "--corpus", CORPUS, "--out", RUN],
    ["evaluate", RUN, "--corpus", CORPUS, "-o", RESULTS, "--set", "n_windows=400", "--set", "probe_n_per_class=200"],
    ["embed", RUN, REGIONS, "--fasta", FASTA, "-o", OUT / "embeddings.parquet"],
]


def main() -> None:
    started = time.monotonic()
    for step in STEPS:
        words = [str(word.relative_to(HERE.parent)) if isinstance(word, Path) else word for word in step]
        print(f"\n$ umbel {shlex.join(words)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "umbel", *words], cwd=HERE.parent).returncode
        if code:
            sys.exit(code)
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open these in a browser:")
    for page in (MINI / "atlas" / "atlas.html", RESULTS / "report.html"):
        print(f"  {page}")


if __name__ == "__main__":
    main()
