"""Make the Hugging Face model card of mini from the JSON files of its results, ``run.json`` and the manifest.

    python benchmarks/mini/card.py SHIPPED -o SHIPPED/README.md

SHIPPED is the folder of the model that comes with the package. No number is written by hand: a test makes the card
again and compares. What was not measured is told as such; a file about other weights is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import card_tables
from card_tables import CardError, Result, table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHIPPED = ROOT / "src" / "umbel" / "model" / "shipped" / "mini"
RESULTS = HERE.parent / "results"
SECTIONS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "regions": ("Masked bases by region", card_tables.regions),
    "sites": ("Splice sites, start and stop codons", card_tables.sites),
    "effects": ("Synonymous, missense and nonsense", card_tables.effects),
    "strength": ("Promoter and terminator strength", card_tables.strength),
    "atlas": ("Experts", card_tables.atlas),
    "scaling": ("Loss against bases seen", card_tables.scaling),
}
SHARED = {
    "no restriction": "yes",
    "CC BY 4.0": "yes, with attribution",
    "free for any use": "yes: the sequence is free, and the licence of the package that carried it is of that package",
}
"""Words of a licence, and whether it lets weights be redistributed."""
LIMITS = """\
- **Small, and trained briefly.** It is there to try the software with real weights, to test pipelines and to teach.
  Larger models were not measured beside it.
- **Four Brassicaceae mostly**, of two of them single chromosomes; a few plastomes and pieces of rice. Of other plants,
  and of everything that is no plant, expect little.
- **Not for decisions** about people, breeding or release. A score tells how unexpected a base is to this model, and
  not what it does.
- Longer context than its window was never seen in training.
- Where k-mers or a Markov model of both flanks do as well, use those: the tables say where."""


def load(path: Path) -> Result:
    try:
        return Result(json.loads(path.read_text(encoding="utf-8")), path.name)
    except FileNotFoundError:
        raise CardError(f"{path}: not there") from None
    except ValueError as error:
        raise CardError(f"{path}: no JSON: {error}") from error


def sources(manifest: Path) -> str:
    """Every assembly of the manifest with role and licence.

    Raises
    ------
    CardError
        If a licence is missing, or nobody has judged it.
    """
    lines = []
    for values in tomllib.loads(manifest.read_text(encoding="utf-8"))["assembly"]:
        one = Result(values, f"{manifest.name}, {values.get('assembly')}")
        licence = one["licence"]
        shared = next((answer for words, answer in SHARED.items() if words in licence), None)
        if shared is None:
            raise CardError(f"{one.place}: may weights be redistributed under {licence!r}? Judge it in SHARED.")
        roles = ", ".join(role for role in ("train", "valid", "test") if role in one["contigs"])
        lines.append([f"*{one['species']}*", one["assembly"], roles, one["source"], licence, shared])
    head = ["species", "assembly", "role of its contigs", "source", "licence", "weights may be redistributed"]
    return table(head, lines)


def front_matter(results: dict[str, Result]) -> str:
    lines = [
        "license: apache-2.0",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags:",
        *(f"- {tag}" for tag in ("biology", "genomics", "dna", "plants", "mixture-of-experts", "mamba", "umbel")),
    ]
    if "regions" in results:
        every = results["regions"]["sets"]["napus"]["classes"]["all"]["rows"]["model"]
        lines += [
            "model-index:",
            "- name: umbel-mini",
            "  results:",
            "  - task:",
            "      type: fill-mask",
            "      name: Masked bases",
            "    dataset:",
            "      type: brassica-napus-held-out",
            "      name: Brassica napus, scaffolds held out of training",
            "    metrics:",
            "    - type: accuracy",
            f"      value: {every['accuracy']['value']:.4f}",
            "    - type: loss",
            f"      value: {every['loss']['value']:.4f}",
        ]
    return "\n".join(["---", *lines, "---"])


def cores(run: Result) -> str:
    n = run["processes"] * run["threads"]
    return f"{n} core{'s' if n > 1 else ''}"


def how_trained(run: Result, scaling: Result | None) -> str:
    config = run["config"]
    model, data, train, optim = (config[key] for key in ("model", "corpus", "train", "optim"))
    step = run["shipped"]["step"]
    bases = step * train["batch_windows"] * data["window_bp"]
    place = run["device_name"] if run["device"] != "cpu" else f"CPU, {cores(run)}"
    lines = [
        ["parameters", f"{run['n_parameters']:,} ({run['n_active_parameters']:,} active per base)"],
        ["architecture", f"`{model['pattern']}` tiled over {model['n_layers']} layers, width {model['d_model']}, "
                         f"{model['n_experts']} experts, top {model['top_k']}"],
        ["tokens", f"{'single bases' if config['tokens']['k'] == 1 else str(config['tokens']['k']) + '-mers'}"],
        ["window", f"{data['window_bp']:,} bp"],
        ["objective", f"masked bases, {config['masking']['mask_frac']:.0%}"],
        ["bases seen", f"{bases / 1e6:,.1f} million, padding and repeated passes included (step {step:,})"],
        ["optimiser", f"{optim['kind']}, learning rate {optim['lr']:g}"],
        ["computed on", place + (f", {scaling['points']['hours']:.2f} hours" if scaling is not None else "")],
        ["corpus", f"hash `{run['corpus']['hash']}`"],
        ["weights", f"{run['shipped']['dtype']}, SHA-256 `{run['shipped']['weights_sha256']}`"],
        ["code", f"umbel {run['umbel']}" + (f", commit `{run['commit']}`" if run["commit"] else "")],
    ]  # fmt: skip
    return table(["", ""], lines)


def render(shipped: Path, results: Path, manifest: Path) -> str:
    """Make the text of the card.

    Raises
    ------
    CardError
        If a file is broken, lacks a key, or tells of other weights than those in ``shipped``.
    """
    run = load(shipped / "run.json")
    weights = run["shipped"]["weights_sha256"]
    if hashlib.sha256((shipped / "model.safetensors").read_bytes()).hexdigest() != weights:
        raise CardError(f"{shipped}: run.json tells of other weights than are there. Ship the run again.")
    found: dict[str, Result] = {}
    for name in SECTIONS:
        path = results / f"mini_{name}.json"
        if path.is_file():
            found[name] = load(path)
            if name != "scaling" and found[name]["model"]["weights_hash"] != weights:
                raise CardError(f"{path.name}: measured on other weights than are shipped. Measure again: all.py.")
    parts = [
        front_matter(found),
        "# umbel-mini",
        "A small sparse-expert masked language model of plant DNA (bidirectional Mamba and mixture of experts), which "
        "comes with the package umbel. All numbers but the curve of training are on sequence that it never saw, and "
        "stand beside those of baselines; most of what a lab would ask needs a larger model.",
        '```python\nimport umbel\n\nmodel = umbel.load("mini")\nvectors = model.embed(["ACGTTGCAAGCTTAGGCATT"])\n```',
        f"## Limits\n\n{LIMITS}",
        f"## How it was trained\n\n{how_trained(run, found.get('scaling'))}",
        f"## Data and licences\n\n{sources(manifest)}\n\n"
        "Weights are under Apache-2.0, like the code. The licences above let weights be redistributed; no sequence "
        "comes with them. The STARR-seq measurements, introns and transposable elements that it is tested on below "
        "have no licence file of their own: they are read from a user's path, are in no file here, and trained no "
        "weights of this model.",
        "## What was held out\n\nChromosome 5 of *A. thaliana* and the *B. napus* contigs of role test were never "
        "trained on, nor were stretches of the other genomes that descend from the same ground "
        "(`benchmarks/mini/manifest.toml`, `[[exclude]]`). Related families of genes and transposons remain on both "
        "sides.",
        "# What it knows",
    ]
    for name, (title, write) in SECTIONS.items():
        text = write(found[name]) if name in found else "Not measured on these weights."
        parts.append(f"## {title}\n\n{text}")
    if "regions" in found:
        about = found["regions"]["facts"]
        parts.append(f"Measured at commit `{about['commit']}` on {about['machine']}, {about['date']}.")
    parts.append("Made by `benchmarks/mini/card.py` from `benchmarks/results/mini_*.json`; do not edit by hand.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("shipped", type=Path, nargs="?", default=SHIPPED)
    words.add_argument("--results", type=Path, default=RESULTS)
    words.add_argument("--manifest", type=Path, default=HERE / "manifest.toml")
    words.add_argument("-o", "--out", type=Path)
    words = words.parse_args()
    try:
        text = render(words.shipped, words.results, words.manifest)
    except CardError as error:
        sys.exit(str(error))
    out = words.out or words.shipped / "README.md"
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
