"""A made-up genome small enough for any test: odd names, repeats, gaps, ambiguity letters, genes on both strands."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CONTIGS = ("chr1|toy v=2", "scaffold:7_A", "lcl.3-b", "chloroplast")
"""Headers as written; the names are their first words."""
NAMES = tuple(header.split()[0] for header in CONTIGS)
ROLE_OF = {NAMES[0]: "train", NAMES[1]: "valid", NAMES[2]: "test", NAMES[3]: ""}


def toy_sequences(seed: int = 0, contig_bp: int = 6_000) -> dict[str, str]:
    """Name to letters: soft-masked runs everywhere, N runs in the first contig, IUPAC letters in the second."""
    rng = np.random.default_rng(seed)
    sequences = {}
    for number, name in enumerate(NAMES):
        length = contig_bp + 37 * number
        letters = rng.choice(list("ACGT"), length, p=[0.32, 0.18, 0.18, 0.32])
        # An open repeat of a fixed motif gives models something to learn.
        motif = list("TTAGGGACCATG")
        for start in range(length // 3, length // 2, 48):
            letters[start : start + len(motif)] = motif[: length - start]
        if number == 0:
            letters[length // 5 : length // 5 + 80] = "N"
        if number == 1:
            letters[[10, 20, 30, 40]] = list("RYKU")
        text = "".join(letters)
        soft_start = length // 4
        soft_end = soft_start + length // 8
        sequences[name] = text[:soft_start] + text[soft_start:soft_end].lower() + text[soft_end:]
    return sequences


def fasta_text(sequences: dict[str, str], width: int = 70, line_end: str = "\n") -> str:
    """FASTA of sequences; a toy contig gets its whole header back."""
    header_of = dict(zip(NAMES, CONTIGS, strict=True))
    lines = []
    for name, sequence in sequences.items():
        lines.append(f">{header_of.get(name, name)}")
        lines += [sequence[start : start + width] for start in range(0, len(sequence), width)]
    return line_end.join(lines) + line_end


def gff3_row(contig: str, kind: str, start: int, end: int, strand: str, attributes: str) -> str:
    """One GFF3 line of a feature at ``start``, ``end`` (0-based half-open)."""
    phase = "0" if kind == "CDS" else "."
    return "\t".join((contig, "toy", kind, str(start + 1), str(end), ".", strand, phase, attributes))


def toy_gene(contig: str, start: int, strand: str, name: str) -> list[str]:
    """Rows of a gene of 900 bp: exons [0, 300) and [600, 900), CDS [100, 300) and [600, 800), all from ``start``."""
    rows = [
        gff3_row(contig, "gene", start, start + 900, strand, f"ID={name}"),
        gff3_row(contig, "mRNA", start, start + 900, strand, f"ID={name}.1;Parent={name}"),
    ]
    for first, last in ((0, 300), (600, 900)):
        rows.append(gff3_row(contig, "exon", start + first, start + last, strand, f"Parent={name}.1"))
    for first, last in ((100, 300), (600, 800)):
        rows.append(gff3_row(contig, "CDS", start + first, start + last, strand, f"Parent={name}.1"))
    return rows


def toy_gff3(contig_bp: int = 6_000) -> str:
    """GFF3 of a two-exon gene on each strand, and one non-coding transcript, in every contig that has a role."""
    rows = ["##gff-version 3"]
    for number, name in enumerate(NAMES[:3]):
        second = contig_bp // 2
        rows += toy_gene(name, contig_bp // 50, "+", f"plus{number}")
        rows += toy_gene(name, second, "-", f"minus{number}")
        start = contig_bp - 400
        rows.append(gff3_row(name, "lnc_RNA", start, start + 300, "+", f"ID=nc{number}"))
        rows.append(gff3_row(name, "exon", start, start + 300, "+", f"Parent=nc{number}"))
    return "\n".join(rows) + "\n"


def write_toy_project(folder: str | Path, seed: int = 0, contig_bp: int = 6_000, n_assemblies: int = 1) -> Path:
    """Write FASTA, GFF3, ``manifest.toml`` and an equal ``manifest.csv``; return the path of the TOML one.

    Assembly ``toy0`` has an annotation, further ones (``toy1``, ...) have none. The last contig has no role.
    ``contig_bp`` must be at least 2700, so that the genes do not overlap.
    """
    assert contig_bp >= 2_700
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    toml, rows = [], ["species,assembly,fasta,gff3,role,contigs"]
    for number in range(n_assemblies):
        name = f"toy{number}"
        (folder / f"{name}.fa").write_text(fasta_text(toy_sequences(seed + number, contig_bp)))
        gff3 = ""
        if number == 0:
            gff3 = f"{name}.gff3"
            (folder / gff3).write_text(toy_gff3(contig_bp))
        toml.append(f'[[assembly]]\nspecies = "Planta ludens"\nassembly = "{name}"\nfasta = "{name}.fa"')
        if gff3:
            toml.append(f'gff3 = "{gff3}"')
        toml.append("[assembly.contigs]")
        for contig, role in ROLE_OF.items():
            if role:
                toml.append(f'{role} = ["{contig}"]')
                rows.append(f"Planta ludens,{name},{name}.fa,{gff3},{role},{contig}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    manifest = folder / "manifest.toml"
    manifest.write_text("\n".join(toml) + "\n")
    return manifest


SPECIES = ("Alpha prima", "Beta secunda", "Alpha tertia")


def write_toy_species(folder: str | Path) -> Path:
    """Write a project of three species with 4, 1 and 1 assemblies; return the path of the manifest."""
    manifest = write_toy_project(folder, contig_bp=2_700, n_assemblies=6)
    text = manifest.read_text()
    for number in (0, 1, 0, 2, 0, 0):
        text = text.replace("Planta ludens", SPECIES[number], 1)
    manifest.write_text(text)
    return manifest


def toy_run(**train: object):
    """A run of 12 steps of a two-layer model on windows of 256 bp, a second or two long."""
    from dataclasses import replace

    from umbel.train.recipes import tiny

    run = tiny()
    return replace(
        run,
        name="toy",
        model=replace(run.model, n_layers=2, d_model=16, d_state=4, ffn_hidden=24, n_experts=3),
        corpus=replace(run.corpus, window_bp=256, overlap_bp=64),
        optim=replace(run.optim, warmup_steps=min(3, int(train.get("steps", 12))), lr=1e-2),
        train=replace(
            run.train,
            **{
                "steps": 12,
                "batch_windows": 4,
                "micro_batch_windows": 2,
                "eval_every_steps": 6,
                "eval_windows": 4,
                "save_every_steps": 5,
                **train,
            },
        ),
    )


def toy_packed_run(**train: object):
    """The toy run on 3-mers in packed rows of 100 tokens."""
    from dataclasses import replace

    from umbel.config import TokensConfig

    run = toy_run(**train)
    return replace(run, name="toy3", model=replace(run.model, vocab_size=92), tokens=TokensConfig(k=3, row_tokens=100))


def toy_placement_run(**train: object):
    """The toy run with every objective: single hidden bases, hidden runs, and 3 cut spans of 12 bases."""
    from dataclasses import replace

    run = toy_run(**train)
    masking = replace(run.masking, span_weight=1.0, placement_weight=1.0, placement_spans=3, placement_span_tokens=12)
    return replace(run, name="toy_placement", masking=masking)


def toy_stream_model():
    """Settings of a network that can be streamed: four HyenaLite layers, two of them with experts."""
    from umbel.config import ModelConfig

    return ModelConfig(
        pattern="Hd He",
        n_layers=4,
        d_model=12,
        d_state=4,
        n_heads=2,
        ffn_hidden=16,
        n_experts=3,
        gating="normalised",
        top_k=2,
    )


def enlarge(model):
    """Move weights away from the small initial ones, so that every layer matters and a leak would show."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "log_decay" not in name:
                parameter.mul_(1.5)
    return model
