"""Train on as many bases of few species and of many, and ask both about species that neither has seen.

Use: python benchmarks/breadth.py GENOMES -o OUT.json [--only plastomes|nuclear] [--seeds 0 1 2] [--steps 240]
     [--windows 128] [--runs runs/breadth] [--threads N] [--device cpu]

GENOMES holds plastomes/ (angiosperm_plastomes_729sp.fa.xz and plastome_metadata.tsv.gz), arabidopsis_thaliana/,
arabidopsis_arenosa/, brassica_napus/ (2bit) and oryza_sativa/ (rice_EDTA_test_region.fa.gz). Every seed has a corpus of
its own, which serves both arms: which plastomes are deep, and which stretches the others give, is drawn for it. The
hidden bases that are asked for are the same in all arms. Killed in any way, the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import lzma
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from scipy.stats import t as student

from umbel.config import BalanceConfig, RunConfig, to_dict
from umbel.data import train_windows
from umbel.data.balance import cap_chances, effective_species
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.store import Corpus
from umbel.evaluate.markov import FlankModel, choose_order, count_flanks
from umbel.evaluate.masked_loss import Scorer, choose_windows, read_hidden, score_windows
from umbel.files import sha256_json, write_json
from umbel.genome.fasta import read_pieces
from umbel.ops.devices import resolve_device
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter
from umbel.train.pretrain import pretrain
from umbel.train.recipes import breadth, depth

LEVEL = 0.95
MAX_ORDER = 4
"""Longest flank of the Markov model; which one is used is chosen on validation windows."""
ASKED = {"seed": 0, "mask_frac": 0.15}
"""The same hidden bases for every arm and seed."""

SPORE_PLANTS = ("Funariaceae", "Anthocerotaceae", "Marchantiaceae", "Selaginellaceae", "Marsileaceae", "Salviniaceae")
PLASTOME_TESTS = {
    "grasses (Poaceae)": ("Poaceae",),
    "legumes (Fabaceae)": ("Fabaceae",),
    "nightshades (Solanaceae)": ("Solanaceae",),
    "water lilies (Nymphaeaceae)": ("Nymphaeaceae",),
    "spore plants": SPORE_PLANTS,
}
PLASTOME_VALID = ("Rosaceae",)
N_DEEP = 4
DEEP_BP = (145_000, 165_000)
"""Plastomes of an ordinary length, alone in their families, may be the deep ones."""
SHALLOW_BP = 30_000
"""What each of the other plastomes gives, from a place drawn by chance, so that the deep ones have the most bases."""


@dataclass(frozen=True)
class Source:
    """One assembly that goes into a manifest: its contigs as letters, and the role of all of them or of each."""

    species: str
    name: str
    contigs: dict[str, str]
    role: str | dict[str, str]


@dataclass(frozen=True)
class Experiment:
    """A corpus, what it is asked about, and how many species are deep."""

    sources: list[Source]
    groups: dict[str, tuple[str, ...]]
    """Name of a test group to its assemblies."""
    deep: tuple[str, ...]
    unseen: tuple[str, ...]
    """Groups whose species neither arm sees."""


def plastomes(genomes: Path, seed: int) -> Experiment:
    """Lay out four whole plastomes and a stretch of every other one; five groups of families are held out."""
    folder = genomes / "plastomes"
    with gzip.open(folder / "plastome_metadata.tsv.gz", "rt", encoding="utf-8") as handle:
        facts = {row["accession"]: row for row in csv.DictReader(handle, delimiter="\t")}
    family = {accession: row["family"] for accession, row in facts.items()}
    tests = {family: group for group, families in PLASTOME_TESTS.items() for family in families}
    trained = sorted(a for a in facts if family[a] not in tests and family[a] not in PLASTOME_VALID)
    rng = np.random.default_rng([seed, 1])
    # With a relative in the corpus a species might lose most of its bases as copies.
    n_of_family = Counter(family.values())
    alone = [a for a in trained if n_of_family[family[a]] == 1]
    ordinary = [a for a in alone if DEEP_BP[0] <= int(facts[a]["length"]) <= DEEP_BP[1]]
    deep = {str(a) for a in rng.choice(ordinary, N_DEEP, replace=False)}
    sources, groups = [], {group: [] for group in PLASTOME_TESTS}
    for accession, letters in sorted(read_xz(folder / "angiosperm_plastomes_729sp.fa.xz")):
        role = "test" if family[accession] in tests else "valid" if family[accession] in PLASTOME_VALID else "train"
        if role == "train" and accession not in deep:
            first = int(rng.integers(max(1, len(letters) - SHALLOW_BP)))
            letters = letters[first : first + SHALLOW_BP]
        sources.append(Source(facts[accession]["organism"], accession, {accession: letters}, role))
        if role == "test":
            groups[tests[family[accession]]].append(accession)
    named = {group: tuple(accessions) for group, accessions in groups.items()}
    return Experiment(sources, named, tuple(facts[a]["organism"] for a in sorted(deep)), tuple(named))


def read_xz(path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and letters of a FASTA file whose records have one line of letters each."""
    with lzma.open(path, "rt", encoding="ascii") as handle:
        for header, letters in zip(handle, handle, strict=True):
            yield header[1:].split()[0], letters.strip()


def nuclear(genomes: Path, seed: int) -> Experiment:
    """Lay out stretches of three crucifers, of which A. thaliana has the most, and of rice; seeds share them."""
    twobit = {
        "thaliana1": genomes / "arabidopsis_thaliana" / "TAIR10_chr1.2bit",
        "thaliana5": genomes / "arabidopsis_thaliana" / "TAIR10_chr5.2bit",
        "arenosa": genomes / "arabidopsis_arenosa" / "AARE701a_chr1_chr2.2bit",
        "napus": genomes / "brassica_napus" / "Bnapus_AST_PRJEB5043_v1_top_scaffolds_part1.2bit",
    }
    rice = genomes / "oryza_sativa" / "rice_EDTA_test_region.fa.gz"
    mb = 1_000_000
    sources = [
        Source(
            "Arabidopsis thaliana",
            "thaliana",
            {
                "chr1": stretch(twobit["thaliana1"], "NC_003070.9", 0, 6 * mb),
                "chr5": stretch(twobit["thaliana5"], "Chr5", 0, 2 * mb),
                "chr5_valid": stretch(twobit["thaliana5"], "Chr5", 20 * mb, 21 * mb),
            },
            {"chr1": "train", "chr5": "test", "chr5_valid": "valid"},
        ),
        Source(
            "Arabidopsis arenosa",
            "arenosa",
            {
                "chr1": stretch(twobit["arenosa"], "LR999451.1", 0, 4 * mb),
                "chr2": stretch(twobit["arenosa"], "LR999452.1", 2 * mb, 4 * mb),
            },
            {"chr1": "train", "chr2": "test"},
        ),
        Source(
            "Brassica napus",
            "napus",
            {
                "LK031787": stretch(twobit["napus"], "LK031787", 0, 4 * mb),
                "LK031790": stretch(twobit["napus"], "LK031790", 0, 2 * mb),
            },
            {"LK031787": "train", "LK031790": "test"},
        ),
        Source("Oryza sativa", "rice", {p: stretch(rice, p, 0, mb) for p in ("Chr2_rice_Nipponbare_MSU7",)}, "test"),
    ]
    groups = {
        "rice": ("rice",),
        "A. thaliana, chromosome 5": ("thaliana",),
        "A. arenosa, chromosome 2": ("arenosa",),
        "B. napus, another scaffold": ("napus",),
    }
    return Experiment(sources, groups, ("Arabidopsis thaliana",), ("rice",))


def stretch(path: Path, contig: str, start: int, end: int) -> str:
    """Read bases of one contig, repeats in lower case."""
    parts = []
    for piece in read_pieces(path):
        if piece.name == contig and piece.end > start and piece.start < end:
            here = slice(max(0, start - piece.start), end - piece.start)
            upper = np.frombuffer(b"ACGTN", np.uint8)[piece.codes[here]]
            parts.append(np.where(piece.soft_mask[here], upper | 0x20, upper).astype(np.uint8).tobytes())
    letters = b"".join(parts).decode("ascii")
    if len(letters) != end - start:
        sys.exit(f"{path}: contig {contig} has no bases {start} to {end}")
    return letters


EXPERIMENTS: dict[str, Callable[[Path, int], Experiment]] = {"plastomes": plastomes, "nuclear": nuclear}


def write_project(folder: Path, sources: Sequence[Source]) -> Path:
    """Write the FASTA files and the manifest of a corpus; return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for source in sources:
        text = "".join(f">{contig}\n{letters}\n" for contig, letters in source.contigs.items())
        (folder / f"{source.name}.fa").write_text(text, encoding="ascii")
        roles: dict[str, list[str]] = {}
        for contig, role in {"*": source.role}.items() if isinstance(source.role, str) else source.role.items():
            roles.setdefault(role, []).append(contig)
        lines += [
            "[[assembly]]",
            f"species = {json.dumps(source.species)}",
            f"assembly = {json.dumps(source.name)}",
            f"fasta = {json.dumps(f'{source.name}.fa')}",
            "[assembly.contigs]",
            *(f"{role} = {json.dumps(contigs)}" for role, contigs in roles.items()),
        ]
    manifest = folder / "manifest.toml"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def arms_of(experiment: Experiment, corpus: Corpus, seed: int, steps: int) -> dict[str, RunConfig]:
    """Give both arms the same pool: the recipe's, or what the deep species have, if that is less."""
    deep, broad = depth(), breadth()
    deep = replace(deep, balance=replace(deep.balance, n_species=len(experiment.deep), pool_bp=0))
    chosen = train_windows.choose_windows(corpus, deep.balance, seed)
    found = {s.name for s, n in zip(chosen.species, chosen.n_windows.tolist(), strict=True) if n}
    if found != set(experiment.deep):
        sys.exit(f"{corpus.path}: the species with the most bases are {sorted(found)}, not {sorted(experiment.deep)}")
    pool_bp = min(broad.balance.pool_bp, int(chosen.n_bases.sum()))
    return {
        run.name: replace(
            run,
            balance=replace(run.balance, pool_bp=pool_bp),
            train=replace(run.train, seed=seed, steps=steps, eval_every_steps=steps, keep_states=1),
        )
        for run in (deep, broad)
    }


class Pool(Corpus):
    """A corpus whose train windows are those of a run's pool, for baselines that are to know no more than it."""

    def __init__(self, corpus: Corpus, balance: BalanceConfig, seed: int):
        super().__init__(corpus.path, corpus.facts)
        self._chosen = np.sort(train_windows.choose_windows(corpus, balance, seed).ids)

    def window_ids(self, role: str) -> np.ndarray:
        """Give the pool as the windows of role train."""
        return self._chosen if role == "train" else super().window_ids(role)


def windows_of(corpus: Corpus, groups: dict[str, tuple[str, ...]], n_windows: int) -> dict[str, np.ndarray]:
    """Choose windows of each group, the same whatever the arm."""
    ids = corpus.window_ids("test")
    assemblies = np.array([corpus.window(int(i)).assembly for i in ids])
    found = {
        name: choose_windows(ids[np.isin(assemblies, of)], n_windows, ASKED["seed"]) for name, of in groups.items()
    }
    if empty := [name for name, chosen in found.items() if not len(chosen)]:
        sys.exit(f"{corpus.path}: no test window of {', '.join(empty)}")
    return found


def losses(scorer: Scorer, corpus: Corpus, windows: dict[str, np.ndarray], title: str) -> dict[str, float]:
    """Masked loss of each group, nats per hidden base."""
    found = {}
    for name, ids in windows.items():
        sums = score_windows(scorer, corpus, ids, **ASKED, title=title)
        found[name] = float(sums.loss[0].sum() / sums.n_bases[0].sum())
    return found


def one(
    run: RunConfig, corpus: Corpus, groups: dict[str, tuple[str, ...]], folder: Path, n_windows: int, device: str
) -> dict[str, Any]:
    """Train and ask one arm of one seed beside its baselines; what is known already is read."""
    key = sha256_json([to_dict(run), corpus.hash, groups, n_windows])
    told = folder.with_suffix(".json")
    if told.exists() and (known := json.loads(told.read_text()))["key"] == key:
        return known
    result = pretrain(run, corpus.path, folder, device=device, reporter=Reporter(sys.stderr, every_s=30))
    pool, seed = Pool(corpus, run.balance, run.train.seed), run.train.seed
    windows = windows_of(corpus, groups, n_windows)
    counts = count_flanks(pool, MAX_ORDER)
    valid = choose_windows(corpus.window_ids("valid"), n_windows, ASKED["seed"])
    chosen = choose_order(counts, ((w.codes, w.hidden) for chunk in read_hidden(corpus, valid, **ASKED) for w in chunk))
    model = Predictor.load(result.checkpoint, device)
    rows: dict[str, Scorer] = {
        "model": model,
        "untrained": model.with_random_weights(seed),
        "Markov": FlankModel(counts, chosen.order, chosen.strength),
        "composition": FlankModel(counts, 0, 1.0),
    }
    seen = train_windows.choose_windows(corpus, run.balance, seed)
    chances = cap_chances(
        seen.chances, seen.n_windows, run.balance.max_epochs, run.train.steps, run.train.batch_windows
    )
    found = {
        "key": key,
        "species": int((chances > 0).sum()),
        "effective_species": round(effective_species(chances), 2),
        "pool_bp": int(seen.n_bases.sum()),
        "windows": len(seen.ids),
        "epochs": round(run.train.steps * run.train.batch_windows / len(seen.ids), 3),
        "markov_order": chosen.order,
        "train_loss": result.train["loss"],
        "loss": {name: losses(scorer, corpus, windows, name) for name, scorer in rows.items()},
    }
    write_json(told, found)
    return found


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Give the mean over seeds and its 95 % interval by Student's t; none where there is one seed."""
    mean, n = statistics.fmean(values), len(values)
    told: dict[str, Any] = {"mean": round(mean, 5), "low": None, "high": None}
    if n > 1:
        half = float(student.ppf((1 + LEVEL) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
        told |= {"low": round(mean - half, 5), "high": round(mean + half, 5)}
    return told | {"seeds": [round(value, 5) for value in values]}


def collect(found: dict[str, list[dict[str, Any]]], groups: Sequence[str]) -> dict[str, Any]:
    """Bring the runs of each arm together, and their differences seed by seed."""
    told: dict[str, Any] = {}
    rows = list(found["depth"][0]["loss"])
    for arm, runs in found.items():
        told[arm] = {k: [run[k] for run in runs] for k in runs[0] if k not in ("key", "loss")}
        told[arm]["loss"] = {
            row: {group: over_seeds([run["loss"][row][group] for run in runs]) for group in groups} for row in rows
        }
    told["breadth minus depth"] = {
        row: {
            group: over_seeds(
                [
                    broad["loss"][row][group] - deep["loss"][row][group]
                    for broad, deep in zip(found["breadth"], found["depth"], strict=True)
                ]
            )
            for group in groups
        }
        for row in rows
    }
    return told


def run_experiment(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Run both arms of an experiment with every seed."""
    found: dict[str, list[dict[str, Any]]] = {"depth": [], "breadth": []}
    deep, n_bases = [], {}
    for seed in chosen.seeds:
        place = chosen.runs / f"{name}-seed-{seed}"
        experiment = EXPERIMENTS[name](chosen.genomes, seed)
        manifest = write_project(place / "genomes", experiment.sources)
        corpus = build_corpus(manifest, place / "corpus", depth().corpus, reporter=Reporter(sys.stderr, every_s=30))
        for arm, run in arms_of(experiment, corpus, seed, chosen.steps).items():
            folder = place / f"{arm}-{chosen.steps}"
            found[arm].append(one(run, corpus, experiment.groups, folder, chosen.windows, chosen.device))
        deep.append(sorted(experiment.deep))
        n_bases = {role: total["n_bases"] for role, total in corpus.facts["totals"].items()}
    return {
        "deep_species": deep,
        "groups_of_species_in_neither": list(experiment.unseen),
        "corpus_bases_of_the_last_seed": n_bases,
        **collect(found, list(experiment.groups)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genomes", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=depth().train.steps)
    parser.add_argument("--windows", type=int, default=128, help="test windows of each group")
    parser.add_argument("--runs", type=Path, default=Path("runs/breadth"))
    parser.add_argument("--threads", type=int, default=0, help="0 takes what torch takes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--commit", help="where git is not at hand")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    results: dict[str, Any] = measure.facts(resolve_device(chosen.device), chosen.commit)
    results |= {"what": "masked loss in nats per hidden base; mean over seeds with a 95 % interval by Student's t"}
    results |= {"seeds": chosen.seeds, "steps": chosen.steps, "windows_per_group": chosen.windows}
    for name in [chosen.only] if chosen.only else list(EXPERIMENTS):
        results[name] = run_experiment(name, chosen)
        measure.write_rows(chosen.out, results)
    print(f"{chosen.out}: {chosen.steps} steps, seeds {', '.join(map(str, chosen.seeds))}")


if __name__ == "__main__":
    main()
