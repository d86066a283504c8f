"""From a manifest to BED files of what must not train."""

import numpy as np
import pytest
from calling import umbel
from planted_synteny import random_dna, random_gene, with_genes
from toys import fasta_text

from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.orthologs import write_orthologs
from umbel.errors import ManifestError
from umbel.genome.sequence import decode
from umbel.train.recipes import tiny

EXCLUDE = """
[[exclude]]
name = "orthologs"
bed = "out/orthologs_one.bed"
assembly = "one"
"""


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    genes = [random_gene(rng) for _ in range(10)]
    train, places = with_genes(rng, 400_000, genes, 100_000)
    held, _ = with_genes(rng, 300_000, genes, 60_000, spacing=9_000)
    return {"chr1": train, "chr2": held, "chr3": random_dna(rng, 100_000)}, places


def write_project(folder, planted, roles):
    text = {name: decode(codes, np.zeros(len(codes), bool)) for name, codes in planted.items()}
    (folder / "one.fa").write_text(fasta_text(text))
    lines = ["[[assembly]]", 'species = "Arabidopsis thaliana"', 'assembly = "one"', 'fasta = "one.fa"']
    lines += ["[assembly.contigs]", *(f'{role} = ["{name}"]' for role, name in roles.items())]
    (folder / "m.toml").write_text("\n".join(lines) + "\n")
    return folder / "m.toml"


def test_training_is_compared_with_what_is_held_out_and_the_corpus_leaves_it_out(planted, tmp_path):
    contigs, places = planted
    manifest = write_project(tmp_path, contigs, {"train": "chr1", "test": "chr2", "valid": "chr3"})
    (found,) = write_orthologs(manifest, tmp_path / "out")
    (row,) = [line.split("\t") for line in found.bed.read_text().splitlines()]
    name, start, end = row[0], int(row[1]), int(row[2])
    assert name == "chr1"
    assert start <= places[0][0] < places[-1][1] <= end
    assert found.shared_bp == end - start
    assert found.train_bp == 400_000
    manifest.write_text(manifest.read_text() + EXCLUDE)
    corpus = build_corpus(manifest, tmp_path / "corpus", tiny().corpus, card=False)
    trained = [corpus.window(int(i)) for i in corpus.window_ids("train")]
    assert trained
    assert all(window.end <= start or window.start >= end for window in trained)


def test_the_command_says_how_much_and_what_chance_gives(planted, tmp_path, monkeypatch, capsys):
    manifest = write_project(tmp_path, planted[0], {"train": "chr1", "test": "chr2"})
    code, out, _ = umbel(monkeypatch, capsys, "corpus", "orthologs", manifest, "-o", tmp_path / "out", "-q")
    assert code == 0
    assert "orthologs_one.bed" in out
    assert "of 400,000 bp" in out
    assert "where chance gives" in out


@pytest.mark.parametrize(
    ("roles", "says"),
    [({"train": "chr1"}, "is held out"), ({"test": "chr1"}, "train")],
    ids=["nothing held out", "nothing trains"],
)
def test_one_side_alone_is_refused_and_nothing_is_written(planted, tmp_path, roles, says):
    manifest = write_project(tmp_path, planted[0], roles)
    with pytest.raises(ManifestError, match=f"no assembly names contigs whose role .*{says}"):
        write_orthologs(manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()
