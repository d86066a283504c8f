"""Time the scoring of substitutions against the obvious way: a masked forward an allele and strand, one at a time.

Use: python benchmarks/variant_speed.py -o OUT.json [--small RUN] [--variants 96] [--variants-large 6] [--quick]

The obvious way is the loop that other tools have: cut the window as letters, put [MASK] at the base, tokenise, run
transformers' UmbelForMaskedLM on a batch of one, and read two log-probabilities; again for the reverse complement. It
is timed with the kernels that umbel chooses here, and on the slow path of plain torch layers. Sites have one allele, or
three as in-silico mutagenesis has. `command` is all of ``umbel variants`` but loading: VCF read, bgzip and index
written, no background. Before anything is timed, all ways must agree within 1e-3; else nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch

from umbel.config import ModelConfig
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.genome.reference import Reference
from umbel.genome.sequence import decode
from umbel.genome.variant import Variant
from umbel.model.hf import new_model
from umbel.ops import backends
from umbel.predict.predictor import Predictor, load
from umbel.predict.variants.scores import log_likelihood_ratios
from umbel.predict.variants.scoring import score_variants
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.windows import VariantWindow, cut_window

CPU = torch.device("cpu")
LIMIT = 1e-3
GENOME = Path(__file__).parents[1] / "examples" / "data" / "thaliana.fa.gz"
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def draw(genome: Reference, count: int, alleles: int, flank_bp: int) -> list[VariantWindow]:
    rng = np.random.default_rng(alleles)
    contig = next(iter(genome.lengths))
    found: list[VariantWindow] = []
    while len(found) < count:
        start = int(rng.integers(flank_bp, genome.lengths[contig] - flank_bp))
        ref = decode(genome.fetch(contig, start, start + 1))
        windows = [
            cut_window(Variant(contig, start, ref, alt), genome, flank_bp)
            for alt in rng.permutation([base for base in "ACGT" if base != ref])[:alleles].tolist()
        ]
        if ref != "N" and not windows[0].has_n:
            found += windows
    return found


@torch.no_grad()
def one_at_a_time(model: Any, tokenizer: Any, windows: list[VariantWindow]) -> np.ndarray:
    scores = []
    for window in windows:
        found = []
        for turned in (False, True):
            ref, alt, place, letters = window.variant.ref, window.variant.alt, len(window.left), decode(window.ref)
            if turned:
                letters = letters.translate(_COMPLEMENT)[::-1]
                place = len(letters) - 1 - place
                ref, alt = ref.translate(_COMPLEMENT), alt.translate(_COMPLEMENT)
            inputs = tokenizer(letters[:place] + tokenizer.mask_token + letters[place + 1 :], return_tensors="pt")
            where = int((inputs.input_ids[0] == tokenizer.mask_token_id).nonzero())
            logits = model(**inputs).logits[0, where]
            ids = tokenizer.convert_tokens_to_ids([alt, ref])
            found.append(float(logits[ids[0]] - logits[ids[1]]))
        scores.append(np.mean(found))
    return np.array(scores)


@contextmanager
def plain_torch() -> Iterator[None]:
    backends.INSTALLED["numba"] = False
    try:
        yield
    finally:
        backends.INSTALLED["numba"] = True


def slowly(model: Any, tokenizer: Any, windows: list[VariantWindow]) -> np.ndarray:
    with plain_torch():
        return one_at_a_time(model, tokenizer, windows)


def write_vcf(path: Path, windows: list[VariantWindow]) -> None:
    sites: dict[tuple[str, int, str], list[str]] = {}
    for window in windows:
        one = window.variant
        sites.setdefault((one.contig, one.start, one.ref), []).append(one.alt)
    rows = [f"{c}\t{s + 1}\t.\t{r}\t{','.join(alts)}\t.\t.\t." for (c, s, r), alts in sorted(sites.items())]
    columns = "\t".join(("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"))
    path.write_text("\n".join(["##fileformat=VCFv4.2", columns, *rows]) + "\n")


def compare(predictor: Predictor, genome: Reference, count: int, alleles: int, rounds: int) -> dict[str, Any]:
    settings = VariantSettings(("llr",), background=0).resolved(512)
    windows = draw(genome, count, alleles, settings.flank_bp)
    model, tokenizer = predictor._model, hf_tokenizer(predictor.tokens, 512)
    ours = log_likelihood_ratios(predictor, windows)
    few = windows[: min(len(windows), 12)]
    error = max(np.abs(way(model, tokenizer, few) - ours[: len(few)]).max() for way in (one_at_a_time, slowly))
    if not error <= LIMIT:
        sys.exit(f"the ways differ by {error}, so nothing is timed")
    with tempfile.TemporaryDirectory() as name:
        vcf, out = Path(name) / "in.vcf", Path(name) / "out.vcf.gz"
        write_vcf(vcf, windows)
        cases = {
            "umbel": lambda: log_likelihood_ratios(predictor, windows),
            "command": lambda: score_variants(predictor, vcf, GENOME, out, settings=settings),
            "one at a time": lambda: one_at_a_time(model, tokenizer, windows),
            "one at a time, slow path": lambda: slowly(model, tokenizer, windows),
        }
        found = measure.in_turns(cases, rounds, CPU, 90.0, warm_up=False)
    medians = {name: float(np.median(seconds)) for name, seconds in found.items()}
    return {
        "window_bp": 2 * settings.flank_bp + 1,
        "variants": len(windows),
        "alleles_a_site": alleles,
        "largest_difference": float(error),
        "variants_per_s": {name: round(len(windows) / seconds, 2) for name, seconds in medians.items()},
        "over_umbel": {
            name: measure.ratio(seconds, found["umbel"]) for name, seconds in found.items() if name != "umbel"
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--small", type=Path, help="a trained run; without it a small model of random weights")
    parser.add_argument("--variants", type=int, default=96)
    parser.add_argument("--variants-large", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="the small model alone, few variants: to try the script")
    parser.add_argument("--models", default="small,116M", help="which of the two")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    small = ModelConfig(n_layers=4, d_model=64, ffn_hidden=128)
    predictors: dict[str, Any] = {"small": lambda: _random(small)}
    if arguments.small:
        predictors["small"] = lambda: load(arguments.small, "cpu")
    predictors["116M"] = lambda: _random(ModelConfig())
    chosen = ["small"] if arguments.quick else arguments.models.split(",")
    results: dict[str, Any] = {**measure.facts(CPU), "models": {}}
    with Reference.open(GENOME) as genome:
        for name in chosen:
            predictor = predictors[name]()
            count = arguments.variants_large if name == "116M" else 12 if arguments.quick else arguments.variants
            rows = [compare(predictor, genome, count, alleles, 3) for alleles in (1, 3)]
            facts = {"parameters": predictor.n_parameters, "pattern": predictor.config.pattern}
            results["models"][name] = {**facts, "layers": predictor.config.n_layers, "rows": rows}
            print(name, rows, flush=True)
            measure.write(arguments.out, results)


def _random(config: ModelConfig) -> Predictor:
    return Predictor(new_model(replace(config), 512, 0), "random-0", CPU, KmerTokens(1))


if __name__ == "__main__":
    main()
