"""Planted stretches of common descent: proteins kept, DNA changed wherever the code allows it."""

import numpy as np

from umbel.genome.genetic_code import genetic_code

CODE = genetic_code(1).amino_acids
CODONS = np.array(np.meshgrid(range(4), range(4), range(4), indexing="ij")).reshape(3, 64).T
GENE_BP = 900
SPACING_BP = 12_000
SYNONYMS = [np.flatnonzero(CODE[i] == CODE) for i in range(64)]


def random_dna(rng, length):
    return rng.integers(0, 4, length).astype(np.uint8)


def random_gene(rng):
    """Codons without a stop, as numbers from 0 to 63."""
    return rng.choice(np.flatnonzero(ord("*") != CODE), GENE_BP // 3)


def diverged(rng, gene):
    """The same protein in other codons, but for one amino acid in ten."""
    codons = np.array([rng.choice(SYNONYMS[codon]) for codon in gene])
    changed = rng.random(len(codons)) < 0.1
    codons[changed] = rng.choice(np.flatnonzero(ord("*") != CODE), changed.sum())
    return CODONS[codons].reshape(-1)


def with_genes(rng, length, genes, start, spacing=SPACING_BP):
    """Random sequence with diverged copies of genes from ``start`` on, and where they are."""
    codes, places = random_dna(rng, length), []
    for i, gene in enumerate(genes):
        at = start + i * spacing
        codes[at : at + GENE_BP] = diverged(rng, gene)
        places.append((at, at + GENE_BP))
    return codes.astype(np.uint8), places
