import gzip
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from toys import fasta_text, toy_gff3, toy_sequences

from umbel import extras
from umbel.errors import AnnotationError, BackendError, ConfigError
from umbel.genome.annotation import REGIONS, read_gff3
from umbel.genome.sequence import encode
from umbel.predict.embed import EmbedSettings, embed_file, picture
from umbel.predict.embed.classes import by_annotation, by_contig
from umbel.predict.embed.picture import PictureSettings
from umbel.predict.embed.projection import project
from umbel.predict.embed.purity import kmer_composition, neighbour_purity
from umbel.predict.embed.scaling import Scaling
from umbel.predict.predictor import Predictor


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    (folder / "g.fa").write_text(fasta_text(toy_sequences()))
    with gzip.open(folder / "g.gff3.gz", "wt") as handle:
        handle.write(toy_gff3())
    return folder


@pytest.fixture(scope="module")
def predictor(toy_training):
    return Predictor.load(toy_training, device="cpu")


def test_components_are_those_of_sklearn():
    values = np.random.default_rng(0).normal(3, 5, (60, 7)) @ np.random.default_rng(1).normal(size=(7, 7))
    plane = project(values, "pca", 0)
    wanted = PCA(2).fit(StandardScaler().fit_transform(values))
    points = wanted.transform(StandardScaler().fit_transform(values))
    np.testing.assert_allclose(np.abs(plane.points), np.abs(points), atol=1e-4)
    assert plane.axes[0] == f"component 1: {100 * wanted.explained_variance_ratio_[0]:.1f} % of the variance"
    with pytest.raises(ConfigError, match="a picture needs 4 rows with an embedding, and there are 3"):
        project(values[:3], "pca", 0)


def test_scaling_is_that_of_sklearn_block_by_block():
    values = np.random.default_rng(0).normal(1e4, 1, (50, 3)).astype(np.float32)
    values[:, 1] = 5
    found = Scaling.of([values[:1], values[1:1], values[1:20], values[20:]]).apply(values)
    np.testing.assert_allclose(found, StandardScaler().fit_transform(values.astype(np.float64)), atol=1e-2)
    assert not found[:, 1].any()
    with pytest.raises(ValueError, match="there is no vector"):
        Scaling.of([])


def test_classes_by_counting_bases(genome):
    sequences = toy_sequences()
    lengths = {name: len(text) for name, text in sequences.items()}
    features = read_gff3(genome / "g.gff3.gz", lengths).features
    names = ["intergenic", "intron", "UTR", "CDS", "non-coding transcript"]
    contigs = [name for name in lengths for _ in range(0, lengths[name] - 120, 120)]
    starts = np.concatenate([np.arange(0, n - 120, 120) for n in lengths.values()])
    found = by_annotation(genome / "g.gff3.gz", lengths, contigs, starts, starts + 120)
    order = {name: i for i, name in enumerate(REGIONS)}
    for i, (contig, start) in enumerate(zip(contigs, starts.tolist(), strict=True)):
        bases = [0] * 120
        for kind in ("intron", "noncoding", "utr", "cds"):
            for feature in features:
                if feature.contig == contig and feature.region == order[kind]:
                    for place in range(max(start, feature.start), min(start + 120, feature.end)):
                        bases[place - start] = order[kind]
        wanted = names[int(np.bincount(bases).argmax())]
        if contig == "chloroplast":
            wanted = "contig without annotation"
        assert found.names[found.of_row[i]] == wanted
    assert sum(found.counts) == len(contigs)
    assert set(found.names) == {*names, "contig without annotation"}


def test_contigs_beyond_seven_are_one_class():
    contigs = [f"c{i}" for i in range(12) for _ in range(20 - i)]
    found = by_contig(contigs)
    assert found.names == (*(f"c{i}" for i in range(7)), "5 other contigs")
    assert found.counts[:2] == (20, 19)
    assert len(set(found.colours)) == 8
    assert by_contig(["x"] * 3).names == ("x",)


def test_purity_is_that_of_the_neighbours_of_sklearn():
    rng = np.random.default_rng(0)
    of_row = rng.choice(3, 150, p=[0.6, 0.3, 0.1])
    values = rng.normal(size=(150, 5)) * [1, 9, 1, 1, 1] + of_row[:, None]
    far = np.arange(150) * 100_000
    found, chance = neighbour_purity(values, of_row, ["c"] * 150, far, far + 500)
    scaled = StandardScaler().fit_transform(values)
    nearest = NearestNeighbors(n_neighbors=11).fit(scaled).kneighbors(scaled, return_distance=False)[:, 1:]
    each = (of_row[nearest] == of_row[:, None]).mean(1)
    assert found == pytest.approx(np.mean([each[of_row == c].mean() for c in range(3)]), abs=1e-6)
    assert chance == pytest.approx(1 / 3)


def test_neighbours_on_the_genome_do_not_count():
    """Every row has a twin of its class beside it, and nothing else in common with its class."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(60, 6)), 5, axis=0)
    of_row = np.repeat(rng.integers(0, 2, 60), 5)
    starts = np.repeat(np.arange(60) * 50_000, 5) + np.tile(np.arange(5) * 500, 60)
    flattered, _ = neighbour_purity(values, of_row, [str(i) for i in range(300)], starts, starts + 500)
    honest, chance = neighbour_purity(values, of_row, ["c"] * 300, starts, starts + 500)
    assert flattered > 0.65
    assert abs(honest - chance) < 0.12
    assert np.isnan(neighbour_purity(values, np.zeros(300, int), ["c"] * 300, starts, starts + 500)).all()


def test_composition_by_counting():
    text = "ACGTTNACGA"
    both = [text, text[::-1].translate(str.maketrans("ACGT", "TGCA"))]
    words = [s[i : i + 3] for s in both for i in range(8) if "N" not in s[i : i + 3]]
    found = kmer_composition(encode(text.encode())[0], k=3)
    for i, share in enumerate(found):
        word = "".join("ACGT"[i // 4**j % 4] for j in (2, 1, 0))
        assert share == pytest.approx(words.count(word) / len(words))
    assert not kmer_composition(encode(b"NNA")[0]).any()


@pytest.mark.parametrize("per", ["window", "sequence"])
def test_a_picture_beside_the_table(per, genome, predictor, tmp_path):
    drawing = PictureSettings(tmp_path / "p.svg", annotation=genome / "g.gff3.gz")
    bed = tmp_path / "r.bed"
    names = list(toy_sequences())
    bed.write_text("".join(f"{name}\t{s}\t{s + 150}\n" for name in names for s in range(0, 5_850, 150)))
    settings = EmbedSettings(per=per, window_bp=100)
    result = embed_file(
        predictor, bed, tmp_path / "o.parquet", fasta=genome / "g.fa", settings=settings, picture=drawing
    ).picture
    text = (tmp_path / "p.svg").read_text()
    for name, count in result.classes.items():
        assert f">{name}: {count:,}<" in text
    assert sum(result.classes.values()) == result.n_shown == result.n_rows
    assert "% of the variance" in text
    assert result.purity.in_words() in text
    assert 0 <= result.purity.random_weights <= 1
    if per == "sequence":
        return
    again = embed_file(
        predictor, bed, tmp_path / "o.parquet", fasta=genome / "g.fa", settings=settings, picture=drawing
    )
    assert again.picture == result
    assert (tmp_path / "p.svg").read_text() == text


@pytest.mark.parametrize("projection", ["pca", pytest.param("umap", marks=pytest.mark.slow)])
def test_a_sample_of_many_rows(projection, genome, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "SHOWN", 40)
    monkeypatch.setattr(picture, "COMPARED", 30)
    drawing = PictureSettings(tmp_path / "p.png", projection=projection, seed=3)
    result = embed_file(
        predictor, genome / "g.fa", tmp_path / "o.h5ad", settings=EmbedSettings(window_bp=100), picture=drawing
    ).picture
    assert (result.n_shown, result.purity) == (40, None)
    assert result.n_rows == sum(-(-len(text) // 100) for text in toy_sequences().values())
    pixels = matplotlib.image.imread(tmp_path / "p.png")
    assert pixels.shape[0] > 600
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


def test_refusals_come_before_anything_is_computed(genome, predictor, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"--picture p.pdf: end the name in .png or .svg"):
        PictureSettings(Path("p.pdf"))
    with pytest.raises(ConfigError, match="--projection tsne: use pca or umap"):
        PictureSettings(Path("p.png"), projection="tsne")
    monkeypatch.setattr(Predictor, "embed_tokens", None)
    other = tmp_path / "other.gff3"
    other.write_text("##gff-version 3\nelsewhere\t.\tgene\t1\t9\t.\t+\t.\tID=g\n")
    drawing = PictureSettings(tmp_path / "p.png", annotation=other)
    with pytest.raises(AnnotationError, match=r"none of its contigs \(elsewhere\) is in the FASTA"):
        embed_file(predictor, genome / "g.fa", tmp_path / "o.parquet", picture=drawing)
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "umap" else object())
    with pytest.raises(BackendError, match=r"--picture needs umap: pip install 'umbel\[tracks\]'"):
        embed_file(
            predictor,
            genome / "g.fa",
            tmp_path / "o.parquet",
            picture=PictureSettings(tmp_path / "p.png", projection="umap"),
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.gff3"]
