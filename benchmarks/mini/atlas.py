"""What the experts of mini took on held-out sequence: ``umbel experts``, and of its tables what the card tells.

python benchmarks/mini/atlas.py CKPT --data DIR -o benchmarks/results/mini_atlas.json --work FOLDER
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from held_out import FILES, begin, finish, held_out, parser

from umbel.evaluate.experts.atlas import Atlas
from umbel.evaluate.experts.genome_atlas import NO_TRACKS, GenomeFiles, make_genome_atlas
from umbel.evaluate.experts.making import AtlasSettings
from umbel.evaluate.experts.ours import OurModel
from umbel.evaluate.experts.recording import RecordSettings
from umbel.progress import Reporter

LAYER = ("layer", "n_experts", "top_k", "n_dead", "max_over_mean", "router_entropy_share", "margin")
EXPERT = ("layer", "expert", "load", "load_low", "load_high", "is_dead", "ablation", "ablation_low", "ablation_high")
INFORMATION = ("labelling", "layer", "mi_bits", "mi_share", "p", "random", "context_3mer")
MOST_Q = 0.05


def summary(atlas: Atlas) -> dict[str, Any]:
    """Take from an atlas the layers, experts, information and each expert's most enriched class."""
    best: dict[tuple[int, int], dict[str, Any]] = {}
    for row in atlas.rows("enrichment"):
        if row["log2_odds"] is None or row["q"] is None or row["q"] > MOST_Q or row["log2_odds"] <= 0:
            continue
        key = row["layer"], row["expert"]
        if key not in best or row["log2_odds"] > best[key]["log2_odds"]:
            names = ("labelling", "class", "share_in_class", "share_overall", "log2_odds", "low", "high", "q")
            best[key] = {"layer": key[0], "expert": key[1]} | {name: row[name] for name in names}
    return {
        "sample": atlas.facts["sample"],
        "layers": [{name: row[name] for name in LAYER} for row in atlas.rows("layers")],
        "experts": [{name: row[name] for name in EXPERT} for row in atlas.rows("experts")],
        "information": [{name: row[name] for name in INFORMATION} for row in atlas.rows("information")],
        "enriched": [best[key] for key in sorted(best)],
        "notes": list(atlas.facts["notes"]),
    }


def main() -> None:
    words = parser(__doc__, "mini_atlas.json")
    words.add_argument("--work", type=Path, help="folder for the atlas; a stopped one goes on there")
    words.add_argument("--stretch-bp", type=int, default=16_384)
    words.add_argument("--n-stretches", type=int, default=24)
    words.add_argument("--n-ablated", type=int, default=48)
    words = words.parse_args()
    predictor, began = begin(words)
    held = held_out(words)
    settings = AtlasSettings(record=RecordSettings(n_shifts=199), n_draws=words.n_draws, seed=words.seed)
    found = make_genome_atlas(
        OurModel(predictor),
        predictor,
        GenomeFiles(words.data / FILES["napus"], words.data / FILES["napus_genes"], contigs=held.test["napus"]),
        words.work or Path(tempfile.mkdtemp()) / "atlas",
        settings,
        stretch_bp=words.stretch_bp,
        n_stretches=words.n_stretches,
        n_ablated=words.n_ablated,
        track_layer=NO_TRACKS,
        reporter=Reporter(),
    )
    finish(words, began, {"held_out": held.told} | summary(found), predictor)


if __name__ == "__main__":
    main()
