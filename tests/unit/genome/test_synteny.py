"""Shared stretches on planted genomes."""

import numpy as np
from planted_synteny import random_dna, random_gene, with_genes

from umbel.genome.synteny import BIN_BP, MARGIN_BP, Seeded, shared_stretches


def test_a_planted_stretch_is_found_with_its_margin_and_nothing_else():
    rng = np.random.default_rng(1)
    genes = [random_gene(rng) for _ in range(12)]
    target, places = with_genes(rng, 1_000_000, genes, 400_000)
    other, _ = with_genes(rng, 600_000, genes, 100_000, spacing=7_000)
    lonely = random_dna(rng, 200_000)
    found = shared_stretches(Seeded.of([("a", target), ("b", lonely)]), Seeded.of([("c", other)]))
    assert list(found.runs) == ["a", "b"]
    assert found.runs["b"].shape == (0, 2)
    ((start, end),) = found.runs["a"].tolist()
    assert abs(start - (places[0][0] - MARGIN_BP)) <= BIN_BP
    assert abs(end - (places[-1][1] + MARGIN_BP)) <= BIN_BP
    assert found.n_supported >= 12


def test_an_inverted_copy_is_found():
    rng = np.random.default_rng(2)
    genes = [random_gene(rng) for _ in range(10)]
    target, places = with_genes(rng, 400_000, genes, 100_000)
    other, _ = with_genes(rng, 400_000, genes, 100_000)
    inverted = (3 - other[::-1]).astype(np.uint8)
    run = shared_stretches(Seeded.of([("a", target)]), Seeded.of([("c", inverted)])).runs["a"]
    assert len(run) == 1
    assert run[0, 0] <= places[0][0] < places[-1][1] <= run[0, 1]


def test_genes_scattered_over_the_other_genome_are_no_stretch():
    rng = np.random.default_rng(3)
    genes = [random_gene(rng) for _ in range(12)]
    target, _ = with_genes(rng, 400_000, genes, 100_000)
    other, _ = with_genes(rng, 4_000_000, genes, 100_000, spacing=300_000)
    found = shared_stretches(Seeded.of([("a", target)]), Seeded.of([("c", other)]))
    assert found.n_pairs >= 12
    assert found.n_supported == found.n_by_chance == 0
    assert found.runs["a"].shape == (0, 2)


def test_copies_of_one_gene_side_by_side_are_one_gene():
    rng = np.random.default_rng(4)
    gene = random_gene(rng)
    target, _ = with_genes(rng, 200_000, [gene] * 3, 100_000, spacing=2_000)
    other, _ = with_genes(rng, 200_000, [gene] * 3, 100_000, spacing=2_000)
    assert shared_stretches(Seeded.of([("a", target)]), Seeded.of([("c", other)])).n_supported == 0


def test_a_transposon_in_every_corner_points_nowhere():
    rng = np.random.default_rng(5)
    transposon = [random_gene(rng)]
    target, _ = with_genes(rng, 4_000_000, transposon * 40, 20_000, spacing=97_000)
    other, _ = with_genes(rng, 4_000_000, transposon * 40, 20_000, spacing=97_000)
    assert shared_stretches(Seeded.of([("a", target)]), Seeded.of([("c", other)])).n_supported == 0


def test_nothing_in_common_and_no_contigs():
    rng = np.random.default_rng(6)
    a, b = (Seeded.of([("a", random_dna(rng, 50_000))]) for _ in range(2))
    assert shared_stretches(a, b).n_pairs == 0
    assert shared_stretches(a, Seeded.of([])).runs["a"].shape == (0, 2)
