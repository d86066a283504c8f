"""What a small pretrained model expects of coding substitutions, in a species it has seen and in one it has not.

    python benchmarks/zero_shot_effects.py CKPT DATA -o benchmarks/results/zero_shot_effects_cpu.json --work FOLDER

DATA holds ``genomes/``: chromosome 1 of *Arabidopsis thaliana* (TAIR10, Araport genes) and the 68 largest scaffolds of
*Brassica napus* (AST_PRJEB5043_v1) with their genes. What the checkpoint was trained on is told with ``--trained-on``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from measure import facts, write

from umbel.evaluate.zero_shot.runner import zero_shot
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.evaluate.zero_shot.wording import markdown
from umbel.progress import Reporter

GENOMES = {
    "thaliana_chr1": (
        "arabidopsis_thaliana/TAIR10_chr1.2bit",
        "arabidopsis_thaliana/TAIR10_chr1_RefSeq_Araport.gff3.gz",
    ),
    "napus_part1": (
        "brassica_napus/Bnapus_AST_PRJEB5043_v1_top_scaffolds_part1.2bit",
        "brassica_napus/Bnapus_genes_part1.gff3.gz",
    ),
}
KEPT = ("data", "markov", "comparisons", "settings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder for the reports; a stopped run goes on there")
    parser.add_argument("--trained-on", default="unknown")
    parser.add_argument("--n-per-class", type=int, default=300)
    parser.add_argument("--per-gene", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    work = words.work or Path(tempfile.mkdtemp())
    results: dict = {"facts": facts(torch.device("cpu")), "trained_on": words.trained_on, "genomes": {}}
    for name, (fasta, gff3) in GENOMES.items():
        settings = ZeroShotSettings(
            n_per_class=words.n_per_class, per_gene=words.per_gene, note=f"Trained on: {words.trained_on}."
        )
        began = time.perf_counter()
        genomes = words.data / "genomes"
        found = zero_shot(
            words.checkpoint,
            genomes / fasta,
            genomes / gff3,
            work / name,
            settings=settings,
            device="cpu",
            reporter=Reporter(),
        )
        results["model"] = {key: found["model"][key] for key in ("weights_hash", "n_parameters", "window_bp")}
        results["genomes"][name] = {key: found[key] for key in KEPT} | {
            "seconds": round(time.perf_counter() - began, 1)
        }
        print(f"{name}\n\n{markdown(found)}")
        write(words.out, results)


if __name__ == "__main__":
    main()
