from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import SEGMENT_BP, write_planted_project

from umbel.config import CorpusConfig, DuplicatesConfig, SplitConfig
from umbel.data.corpus import finishing
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.check import check_corpus, segments_used
from umbel.data.corpus.store import Corpus
from umbel.errors import CorpusError
from umbel.files import sha256_file, write_json

CONFIG = CorpusConfig(
    window_bp=512, overlap_bp=64, duplicates=DuplicatesConfig(segment_bp=SEGMENT_BP, scaled=16), min_n50_bp=0
)
LEAKY = replace(CONFIG, split=SplitConfig(drop_copies=False))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_planted_project(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def corpus(manifest, tmp_path):
    return build_corpus(manifest, tmp_path / "c", CONFIG)


@pytest.mark.parametrize("deep", [False, True])
def test_a_corpus_without_leaks_passes_and_tells_what_was_looked_at(corpus, deep):
    found = check_corpus(corpus.path, deep=deep)
    assert found.n_files == len(corpus.facts["files"]) and found.n_clusters >= 2
    assert f"none of {found.n_clusters} clusters of copies crosses a split" in str(found)
    assert ("compared anew" in str(found)) == deep


@pytest.mark.parametrize("deep", [False, True])
def test_a_cluster_in_two_roles_is_refused_with_its_places(manifest, tmp_path, deep):
    leaky = build_corpus(manifest, tmp_path / "c", LEAKY)
    with pytest.raises(
        CorpusError, match=r"clusters of copies that cross a split: .*of una \((train|valid)\).*\(test\)"
    ):
        check_corpus(leaky.path, deep=deep)


def rewrite(corpus, name, table):
    """Put another table in place, with a checksum that fits: only a look at the content can tell."""
    finishing.write_table(corpus.path / name, table)
    facts = dict(corpus.facts)
    facts["files"] = {**facts["files"], name: {"bytes": 0, "sha256": sha256_file(corpus.path / name)}}
    write_json(corpus.path / "corpus.json", facts)


def test_clusters_that_were_tampered_with_are_found_by_comparing_anew(manifest, tmp_path):
    leaky = build_corpus(manifest, tmp_path / "c", LEAKY)
    table = pq.read_table(leaky.path / "segments.parquet")
    alone = pa.array(np.full(len(table), -1, np.int32))
    rewrite(leaky, "segments.parquet", table.set_column(table.column_names.index("cluster"), "cluster", alone))
    check_corpus(leaky.path)
    with pytest.raises(CorpusError, match=r"the clusters in segments\.parquet are not those of its bases"):
        check_corpus(leaky.path, deep=True)
    rewrite(leaky, "segments.parquet", table.slice(1))
    with pytest.raises(CorpusError, match=r"segments\.parquet has \d+ segments, its contigs have \d+"):
        check_corpus(leaky.path, deep=True)


def test_a_window_put_back_onto_a_left_out_copy_is_found(corpus):
    windows = pq.read_table(corpus.path / "windows.parquet").to_pylist()
    gone = next(
        row
        for row in pq.read_table(corpus.path / "segments.parquet").to_pylist()
        if row["fate"] == "copy of held-out" and row["contig"] == "one"
    )
    windows.insert(0, {**windows[0], "start": gone["start"] + 100, "end": gone["start"] + 612})
    rewrite(corpus, "windows.parquet", pa.Table.from_pylist(windows, pq.read_schema(corpus.path / "windows.parquet")))
    with pytest.raises(CorpusError, match="clusters of copies that cross a split: 1, such as"):
        check_corpus(corpus.path)


def test_segments_are_used_where_a_window_lies_on_them(corpus):
    used = segments_used(Corpus.open(corpus.path))
    segments = pq.read_table(corpus.path / "segments.parquet").to_pylist()
    windows = pq.read_table(corpus.path / "windows.parquet").to_pylist()
    for row, flags in zip(segments, used, strict=True):
        wanted = {
            window["role"]
            for window in windows
            if (window["assembly"], window["contig"]) == (row["assembly"], row["contig"])
            and window["start"] < row["end"]
            and window["end"] > row["start"]
        }
        assert {role for role, flag in zip(("train", "valid", "test"), flags, strict=True) if flag} == wanted


def test_a_damaged_file_is_named(corpus):
    path = corpus.path / "assemblies/una.crc32"
    path.write_bytes(path.read_bytes()[::-1] + b"x")
    with pytest.raises(CorpusError, match=r"assemblies/una\.crc32 is damaged or missing"):
        check_corpus(corpus.path)


def test_without_copies_there_is_nothing_to_compare(manifest, tmp_path):
    corpus = build_corpus(manifest, tmp_path / "c", replace(CONFIG, duplicates=replace(CONFIG.duplicates, ani=0.0)))
    found = check_corpus(corpus.path)
    assert found.n_clusters is None and "copies were not looked for" in str(found)
    with pytest.raises(CorpusError, match=r"built with corpus\.duplicates\.ani=0"):
        check_corpus(corpus.path, deep=True)
