import json
from dataclasses import asdict

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from umbel.errors import ConfigError, RunError
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import decode
from umbel.predict.embed import EmbedSettings
from umbel.predict.predictor import Predictor
from umbel.predict.search import SearchIndex, query
from umbel.predict.search.filters import condition, quoted

QUOTED = "O'Hara; DROP TABLE"
SETTINGS = EmbedSettings(window_bp=100)


def write_genome(path, seed, names=("chr'1", "two")):
    rng = np.random.default_rng(seed)
    path.write_text("".join(f">{name}\n{''.join(rng.choice(list('ACGT'), 1_040))}\n" for name in names) + ">gap\nNNN\n")
    return path


@pytest.fixture(scope="module")
def predictor(toy_training):
    return Predictor.load(toy_training, device="cpu")


@pytest.fixture(scope="module")
def index(predictor, tmp_path_factory):
    """Two species of 22 windows each."""
    folder = tmp_path_factory.mktemp("search")
    for seed, species in enumerate(("Planta prima", QUOTED)):
        genome = write_genome(folder / f"{seed}.fa", seed)
        out = folder / f"{seed}.parquet"
        found = predictor.embed_file(genome, out, settings=SETTINGS, search=folder / "index", species=species)
        assert (found.search.added, found.search.there_already, found.search.without_bases) == (22, 0, 1)
    return folder / "index"


def windows(folder):
    """Every row of the index in plain Python: species, contig, start, codes."""
    for seed, species in enumerate(("Planta prima", QUOTED)):
        for record in read_fasta(folder / f"{seed}.fa"):
            if record.name != "gap":
                for start in range(0, 1_040, 100):
                    yield species, record.name, start, record.codes[start : start + 100]


def by_hand(index, predictor, asked, where=lambda *row: True):
    """Cosines of scaled vectors; the scaling is that of the first genome."""
    rows = list(windows(index.parent))
    vectors = np.stack([predictor.embed([codes])[0] for *_, codes in rows]).astype(np.float64)
    mean, spread = vectors[:22].mean(0), vectors[:22].std(0)
    vectors = (vectors - mean) / spread
    one = (predictor.embed([asked])[0] - mean) / spread
    cosine = vectors @ one / np.linalg.norm(vectors, axis=1) / np.linalg.norm(one)
    kept = [i for i in np.argsort(-cosine) if where(*rows[i][:3])]
    return [(*rows[i][:3], cosine[i]) for i in kept]


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ({}, lambda *row: True),
        ({"species": QUOTED}, lambda species, *_: species == QUOTED),
        ({"contig": "chr'1"}, lambda _, contig, __: contig == "chr'1"),
        ({"interval": "two:300-501"}, lambda _, contig, start: contig == "two" and start in (200, 300, 400, 500)),
        (
            {"species": "Planta prima", "contig": "two", "interval": "two:1-1"},
            lambda species, contig, start: (species, contig, start) == ("Planta prima", "two", 0),
        ),
    ],
)
def test_the_nearest_are_those_of_a_plain_loop(index, predictor, filters, where):
    codes = np.random.default_rng(9).integers(0, 4, 90).astype(np.uint8)
    found = predictor.search(index, decode(codes), k=8, **filters)
    wanted = by_hand(index, predictor, codes, where)[:8]
    assert [(r.species, r.interval.contig, r.interval.start) for r in found.found] == [w[:3] for w in wanted]
    np.testing.assert_allclose([r.similarity for r in found.found], [w[3] for w in wanted], atol=1e-4)
    assert [r.rank for r in found.found] == list(range(1, len(wanted) + 1))
    assert (found.n_rows, found.is_exact) == (44, True)


def test_a_window_finds_itself_by_region_and_by_file(index, predictor, tmp_path):
    genome = index.parent / "0.fa"
    (found,) = predictor.search(index, "chr'1:301-400", fasta=genome, k=1).found
    assert (found.species, str(found.interval)) == ("Planta prima", "chr'1:301-400")
    assert found.similarity == pytest.approx(1, abs=1e-5)
    assert (found.query, found.name, found.n_bases) == ("chr'1:301-400", "chr'1", 100)
    whole = predictor.search(index, genome, k=1, species="Planta prima")
    assert whole.without_bases == ("gap",)
    assert [row.query for row in whole.found][:2] == ["chr'1 1-100", "chr'1 101-200"]
    assert all(row.similarity > 0.9999 for row in whole.found)
    assert len(whole.found) == 22


@pytest.mark.parametrize("text", ["x' OR '1'='1", "x'; DROP TABLE embeddings; --", "' OR species != '"])
def test_a_name_is_a_name(index, predictor, text):
    for filters in ({"species": text}, {"contig": text}, {"interval": f"{text.replace(' ', '')}:1-10"}):
        with pytest.raises(ConfigError, match=r"has no species|no row of .* fulfils"):
            predictor.search(index, "ACGTACGT", **filters)
    assert SearchIndex.open(index).species() == {QUOTED: 22, "Planta prima": 22}
    assert quoted("'") == "''''"
    assert condition(text) == f"species = {quoted(text)}"


def test_the_same_rows_are_not_added_twice(predictor, tmp_path):
    genome, index = write_genome(tmp_path / "g.fa", 0), tmp_path / "index"

    def add(source=genome, **more):
        words = {"settings": SETTINGS, "search": index, "species": "Planta", **more}
        found = predictor.embed_file(source, tmp_path / "o.parquet", **words).search
        return found.added, found.there_already

    assert add(regions=["two:1-1040"]) == (11, 0)
    assert add(regions=["two:1-1040"]) == (0, 11)
    # A line that a BED has twice is one row.
    bed = tmp_path / "r.bed"
    bed.write_text("two\t0\t100\tx\ntwo\t0\t100\tx\ntwo\t0\t100\ty\n")
    assert add(bed, fasta=genome) == (2, 1)
    assert add(regions=["two:1-1040"], species="Planta altera") == (11, 0)
    assert SearchIndex.open(index).species() == {"Planta": 13, "Planta altera": 11}
    other = write_genome(tmp_path / "other.fa", 5)
    with pytest.raises(RunError, match=r"another vector of Planta two:1-100, .*Give it a --species of its own"):
        add(other, regions=["two:1-1040"])
    assert SearchIndex.open(index).table.count_rows() == 24


def test_an_index_is_of_one_model_and_one_way_of_cutting(index, predictor, tmp_path, monkeypatch):
    genome, random = index.parent / "0.fa", predictor.with_random_weights(0)
    words = {"search": index, "species": "Planta tertia"}
    with pytest.raises(RunError, match=r"holds vectors of weights .* and this model's are random-0"):
        random.embed_file(genome, tmp_path / "o.parquet", settings=SETTINGS, **words)
    with pytest.raises(RunError, match="holds vectors of weights"):
        random.search(index, "ACGT")
    with (
        monkeypatch.context() as patch,
        pytest.raises(RunError, match=r"computed in fp32, and .* in int8: give --prec"),
    ):
        patch.setattr(predictor, "precision", "int8")
        predictor.search(index, "ACGT")
    other = EmbedSettings(window_bp=120, stride_bp=100, pooling="max")
    with pytest.raises(
        RunError, match="was made with --window-bp 100 and not 120, --pooling mean and not max: give the"
    ):
        predictor.embed_file(genome, tmp_path / "o.parquet", settings=other, **words)
    with pytest.raises(RunError, match="holds no search index: make one with umbel embed"):
        predictor.search(tmp_path, "ACGT")
    lancedb.connect(tmp_path / "foreign").create_table("embeddings", pa.table({"vector": [[1.0]]}))
    with pytest.raises(RunError, match="holds a LanceDB table that umbel did not make"):
        predictor.search(tmp_path / "foreign", "ACGT")
    with pytest.raises(ConfigError, match="query nothing: there is no such file, and these are no bases"):
        predictor.search(index, "nothing")
    with pytest.raises(ConfigError, match="-k 0: ask for 1 or more"):
        predictor.search(index, "ACGT", k=0)
    with pytest.raises(ConfigError, match=r"--approximate: .* has 44 rows, and below 256 there is nothing to gain"):
        predictor.search(index, "ACGT", approximate=True)
    empty = tmp_path / "n.fa"
    empty.write_text(">n\nNNNNN\n")
    with pytest.raises(RunError, match="no row has an embedding, so there is nothing to search"):
        predictor.embed_file(empty, tmp_path / "e.parquet", search=tmp_path / "new", species="x")
    assert not (tmp_path / "o.parquet").exists()


def test_a_killed_addition_has_added_nothing(predictor, tmp_path, monkeypatch):
    genome, index = write_genome(tmp_path / "g.fa", 0), tmp_path / "index"
    # What is left of a table whose first rows never were committed.
    (index / "embeddings.lance" / "data").mkdir(parents=True)
    (index / "embeddings.lance" / "data" / "half.lance").write_bytes(b"half")
    words = {"settings": SETTINGS, "search": index, "species": "Planta"}
    assert predictor.embed_file(genome, tmp_path / "o.parquet", **words).search.added == 22
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lancedb.table.LanceTable, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        predictor.embed_file(genome, tmp_path / "o.parquet", **{**words, "species": "Planta altera"})
    assert SearchIndex.open(index).species() == {"Planta": 22}
    assert (tmp_path / "o.parquet.parts").exists()
    assert predictor.embed_file(genome, tmp_path / "o.parquet", **{**words, "species": "Planta altera"}).search.added
    assert not (tmp_path / "o.parquet.parts").exists()


def test_sequences_and_their_means(predictor, tmp_path):
    """An index of whole records: a longer query is one vector, the mean over its windows."""
    genome, index = write_genome(tmp_path / "g.fa", 0), tmp_path / "index"
    settings = EmbedSettings(per="sequence", window_bp=100)
    predictor.embed_file(genome, tmp_path / "o.parquet", settings=settings, search=index, species="P")
    found = predictor.search(index, genome, k=2)
    assert [(row.query, row.name) for row in found.found if row.rank == 1] == [("chr'1", "chr'1"), ("two", "two")]
    assert all(row.similarity > 0.999 for row in found.found if row.rank == 1)
    assert json.loads(json.dumps(asdict(found), default=str))["n_rows"] == 2


def test_lists_of_near_vectors_where_asked_for(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(query, "_LISTS", 20)
    genome, index = write_genome(tmp_path / "g.fa", 0), tmp_path / "index"
    words = {"settings": EmbedSettings(window_bp=100, stride_bp=8), "search": index}
    predictor.embed_file(genome, tmp_path / "o.parquet", species="P", **words)
    exact = predictor.search(index, "two:401-500", fasta=genome, k=5)
    near = predictor.search(index, "two:401-500", fasta=genome, k=5, approximate=True)
    assert (exact.is_exact, near.is_exact) == (True, False)
    assert near.found[0].interval == exact.found[0].interval
    predictor.embed_file(genome, tmp_path / "o.parquet", species="Q", **words)
    again = predictor.search(index, "two:401-500", fasta=genome, k=2, approximate=True)
    assert {row.species for row in again.found} == {"P", "Q"}
    assert predictor.search(index, "two:401-500", fasta=genome, k=5, species="P").found == exact.found
