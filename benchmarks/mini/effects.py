"""Synonymous, missense and nonsense substitutions told apart by mini without training: ``umbel zeroshot``, held out.

python benchmarks/mini/effects.py CKPT --data DIR -o benchmarks/results/mini_effects.json
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from held_out import FILES, begin, finish, held_out, parser

from umbel.evaluate.zero_shot.runner import zero_shot
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.evaluate.zero_shot.wording import markdown
from umbel.progress import Reporter

KEPT = ("data", "markov", "comparisons", "settings")


def main() -> None:
    words = parser(__doc__, "mini_effects.json")
    words.add_argument("--work", type=Path, help="folder for the report; a stopped run goes on there")
    words.add_argument("--n-per-class", type=int, default=300)
    words.add_argument("--per-gene", type=int, default=2)
    words.add_argument("--n-random", type=int, default=1)
    words.add_argument("--fit-bp", type=int, default=60_000_000)
    words = words.parse_args()
    predictor, began = begin(words)
    held = held_out(words)
    settings = ZeroShotSettings(
        n_per_class=words.n_per_class,
        per_gene=words.per_gene,
        contigs=held.test["napus"],
        n_random=words.n_random,
        fit_bp=words.fit_bp,
        n_draws=words.n_draws,
        seed=words.seed,
        note=f"Contigs that the model never saw: {held.told}.",
    )
    found = zero_shot(
        predictor.source,
        words.data / FILES["napus"],
        words.data / FILES["napus_genes"],
        words.work or Path(tempfile.mkdtemp()) / "effects",
        settings=settings,
        device="cpu",
        reporter=Reporter(),
    )
    print(markdown(found))
    finish(words, began, {"held_out": held.told} | {key: found[key] for key in KEPT}, predictor)


if __name__ == "__main__":
    main()
