"""umbel embed and umbel search, as a user calls them."""

import json

import anndata
import numpy as np
import pytest
from calling import umbel
from toys import fasta_text, toy_gff3, toy_sequences


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    (folder / "g.fa").write_text(fasta_text({**toy_sequences(contig_bp=2_700), "gap": "N" * 300}))
    (folder / "g.gff3").write_text(toy_gff3(2_700))
    return folder


def test_embed_with_index_and_picture_then_search(monkeypatch, capsys, genome, toy_training, tmp_path):
    out, index, picture = tmp_path / "o.h5ad", tmp_path / "index", tmp_path / "p.png"
    words = ("embed", toy_training, genome / "g.fa", "-o", out, "-q", "--window-bp", 100)
    more = ("--layer", 0, "--pooling", "max", "--search", index, "--species", "Planta", "--picture", picture)
    code, text, err = umbel(monkeypatch, capsys, *words, *more, "--annotation", genome / "g.gff3")
    assert (code, err) == (0, "")
    data = anndata.read_h5ad(out)
    assert int(np.isnan(data.X[:, 0]).sum()) == 3
    assert f"{out}: {data.n_obs:,} rows\n  3 of them have no A, C, G or T, and so no embedding\n" in text
    assert f"{index}: {data.n_obs - 3:,} rows added, 0 were there already\n" in text
    assert f"{picture}: {data.n_obs - 3:,} of {data.n_obs - 3:,} rows with an embedding\n" in text
    assert "nearest neighbours of the same class: this model" in text
    code, text, err = umbel(
        monkeypatch, capsys, "search", toy_training, index, "chloroplast:1-100", "--fasta", genome / "g.fa", "-k", 2
    )
    assert (code, err) == (0, "")
    first, second, third, last = text.splitlines()
    assert first.split() == ["query", "rank", "cosine", "species", "place", "name"]
    assert second.split() == ["chloroplast:1-100", "1", "1.0000", "Planta", "chloroplast:1-100", "chloroplast"]
    assert third.split()[1] == "2"
    assert last == f"of {data.n_obs - 3} rows, all compared"
    words = ("search", toy_training, index, "ACGTTTGCA", "--interval", "chloroplast:150-160", "--json")
    code, text, _ = umbel(monkeypatch, capsys, *words)
    found = json.loads(text)["found"]
    assert (code, [row["interval"]["start"] for row in found]) == (0, [100])
    code, _, err = umbel(monkeypatch, capsys, "search", toy_training, index, "ACGT", "--species", "x' OR '1'='1")
    assert (code, "has no species" in err) == (1, True)


def test_refusals_of_the_command(monkeypatch, capsys, genome, toy_training, tmp_path):
    words = ("embed", toy_training, genome / "g.fa", "-o", tmp_path / "o.parquet", "-q")
    code, _, err = umbel(monkeypatch, capsys, *words, "--annotation", genome / "g.gff3")
    assert (code, err) == (1, "error: --annotation colours a picture: name it with --picture\n")
    code, _, err = umbel(monkeypatch, capsys, *words, "--region", "scaffold:7_A:1-9,999,999")
    assert (code, "contig 'scaffold:7_A' of" in err) == (1, True)
    code, _, err = umbel(monkeypatch, capsys, *words, "--pooling", "none")
    assert (code, "a row for every base takes 4 x D bytes a base" in err) == (1, True)
    assert not list(tmp_path.iterdir())
