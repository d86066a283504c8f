import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from toys import NAMES, ROLE_OF, toy_sequences, write_toy_project

from umbel.config import CorpusConfig
from umbel.data.corpus import packing, store
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.store import Contig, Corpus
from umbel.errors import CorpusError
from umbel.genome.annotation import REGIONS
from umbel.genome.sequence import encode

CONFIG = CorpusConfig(window_bp=512, overlap_bp=128)
SEQUENCES = toy_sequences()


@pytest.fixture
def corpus(tmp_path):
    return build_corpus(write_toy_project(tmp_path, n_assemblies=2), tmp_path / "corpus", CONFIG)


def test_every_window_reads_what_the_fasta_has(corpus):
    seen = []
    for role in ("train", "valid", "test"):
        for i in corpus.window_ids(role):
            window = corpus.window(i)
            sequences = toy_sequences(int(window.assembly[-1]))
            codes, soft_mask, _ = encode(sequences[window.contig][window.start : window.end].encode())
            read_codes, read_mask = corpus.read_window(i)
            assert np.array_equal(read_codes, codes) and np.array_equal(read_mask, soft_mask)
            assert window.role == role == ROLE_OF[window.contig]
            seen.append(int(i))
    assert sorted(seen) == list(range(corpus.n_windows))


def test_any_stretch_can_be_read_also_of_contigs_without_role(corpus):
    rng = np.random.default_rng(0)
    for name in NAMES:
        for _ in range(20):
            start, end = sorted(int(x) for x in rng.integers(0, len(SEQUENCES[name]) + 1, 2))
            codes, soft_mask, _ = encode(SEQUENCES[name][start:end].encode())
            read_codes, read_mask = corpus.read("toy0", name, start, end)
            assert np.array_equal(read_codes, codes) and np.array_equal(read_mask, soft_mask)


def test_contigs_come_by_role_in_order(corpus):
    assert corpus.assemblies == ("toy0", "toy1")
    assert corpus.contigs("valid") == [
        Contig(assembly, NAMES[1], len(SEQUENCES[NAMES[1]]), "valid") for assembly in ("toy0", "toy1")
    ]
    assert [contig.contig for contig in corpus.contigs()] == 2 * list(NAMES)
    assert corpus.contigs()[3].role == ""


def test_regions_are_those_of_the_toy_genes_from_any_start(corpus):
    planted = np.zeros(6000, np.uint8)
    for start in (120, 3000):
        for first, last, region in (
            (0, 900, "intron"),
            (0, 300, "utr"),
            (600, 900, "utr"),
            (100, 300, "cds"),
            (600, 800, "cds"),
        ):
            planted[start + first : start + last] = REGIONS.index(region)
    planted[5600:5900] = REGIONS.index("noncoding")
    assert np.array_equal(corpus.regions("toy0", NAMES[0], 0, 6000), planted)
    for start, end in ((0, 0), (6000, 6000), (120, 121), (119, 120), (200, 3100), (5899, 6000), (220, 220)):
        assert np.array_equal(corpus.regions("toy0", NAMES[0], start, end), planted[start:end])
    assert set(corpus.regions("toy0", NAMES[3], 0, 100)) == {0}


def test_an_assembly_without_annotation_has_no_regions(corpus):
    assert corpus.regions("toy1", NAMES[0], 0, 10) is None


def test_it_opens_again_pickles_small_and_reads_from_threads(corpus):
    corpus.read_window(0)
    pickled = pickle.dumps(corpus)
    assert len(pickled) < 500
    ids = list(range(corpus.n_windows)) * 4
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(pickle.loads(pickled).read_window, ids))
    again = Corpus.open(corpus.path)
    assert again.config == CONFIG and again.hash == corpus.hash
    for i, (codes, _) in zip(ids, threaded, strict=True):
        assert np.array_equal(codes, again.read_window(i)[0])


def test_what_is_not_there_is_refused_by_name(corpus):
    with pytest.raises(CorpusError, match="no window -1; the ids go from 0"):
        corpus.window(-1)
    with pytest.raises(
        CorpusError, match=r"no contig 'chr9' of assembly 'toy0'. There are, for example, chr1\|toy of toy0"
    ):
        corpus.read("toy0", "chr9", 0, 1)
    with pytest.raises(CorpusError, match="has bases 0 to 6000, not 5990 to 6001"):
        corpus.read("toy0", NAMES[0], 5990, 6001)
    with pytest.raises(CorpusError, match="has bases 0 to 6000, not 0 to 6001"):
        corpus.regions("toy0", NAMES[0], 0, 6001)
    with pytest.raises(CorpusError, match="role 'holdout' is none of train, valid, test"):
        corpus.window_ids("holdout")
    with pytest.raises(CorpusError, match="role 'x' is none of"):
        corpus.contigs("x")


def test_check_names_the_damaged_file(corpus):
    corpus.check()
    path = corpus.path / "assemblies/toy1.nibbles"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"assemblies/toy1\.nibbles is damaged or missing"):
        corpus.check()


def test_truncated_files_are_refused_when_read(corpus):
    path = corpus.path / "assemblies/toy0.nibbles"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(CorpusError, match="truncated"):
        corpus.read("toy0", NAMES[2], 0, 10)
    path.write_bytes(b"")
    with pytest.raises(CorpusError, match="damaged"):
        Corpus.open(corpus.path).read("toy0", NAMES[2], 0, 10)
    (corpus.path / "windows.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"windows\.parquet: damaged"):
        Corpus.open(corpus.path).window_ids("train")


def test_a_folder_that_is_no_corpus_is_refused(corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"no corpus here .* umbel corpus build MANIFEST -o"):
        Corpus.open(tmp_path)
    with pytest.raises(CorpusError, match="no corpus here"):
        Corpus.open(tmp_path / "none")
    facts = json.loads((corpus.path / "corpus.json").read_text())

    def with_facts(text):
        (corpus.path / "corpus.json").write_text(text)
        return corpus.path

    with pytest.raises(CorpusError, match=r"corpus\.json: damaged"):
        Corpus.open(with_facts("{"))
    with pytest.raises(CorpusError, match="not the description of an umbel corpus"):
        Corpus.open(with_facts('{"format": "something"}'))
    for version in (1, 3):
        with pytest.raises(CorpusError, match=f"written in corpus format {version}, this umbel reads 2. Build"):
            Corpus.open(with_facts(json.dumps({**facts, "format_version": version})))
    with pytest.raises(CorpusError, match=r"damaged .*files"):
        Corpus.open(with_facts(json.dumps({key: value for key, value in facts.items() if key != "files"})))
    with_facts(json.dumps(facts))
    (corpus.path / "windows.parquet").unlink()
    with pytest.raises(CorpusError, match=r"windows\.parquet is missing"):
        Corpus.open(corpus.path)


def test_a_damaged_block_is_named_when_it_is_read_and_the_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHECKED_BYTES", 1024)
    monkeypatch.setattr(store, "CHECKED_BYTES", 1024)
    corpus = build_corpus(write_toy_project(tmp_path), tmp_path / "corpus", CONFIG)
    path = corpus.path / "assemblies/toy0.nibbles"
    whole = bytearray(path.read_bytes())
    whole[1024 * 4 + 100] ^= 1
    path.write_bytes(whole)
    second = -(-len(SEQUENCES[NAMES[0]]) // 2)
    damaged = 2 * (1024 * 4 + 100 - second)
    corpus.read("toy0", NAMES[0], 0, 6000)
    with pytest.raises(CorpusError, match=rf"damaged in block 4 \(bytes 4,096 on\).*contig '{NAMES[1]}'"):
        corpus.read("toy0", NAMES[1], damaged, damaged + 2)
    # Bases in another block of the same contig are still good.
    corpus.read("toy0", NAMES[1], 0, 100)
    with pytest.raises(CorpusError, match=r"toy0\.nibbles is damaged or missing"):
        corpus.check()


@pytest.mark.parametrize("file", ["toy0.nibbles", "toy0.crc32"])
def test_bases_and_checksums_of_different_length_are_refused(corpus, file):
    path = corpus.path / "assemblies" / file
    path.write_bytes(path.read_bytes()[:-4] if file.endswith("crc32") else path.read_bytes() + bytes(1 << 19))
    with pytest.raises(CorpusError, match="truncated"):
        Corpus.open(corpus.path).read("toy0", NAMES[0], 0, 10)
