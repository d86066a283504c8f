"""What the manifest asks of a build besides packing: repeat masks, screens, benchmarks, unchanged files."""

import numpy as np
import pytest
from planted import mutated, random_codes

from umbel.config import CorpusConfig, DuplicatesConfig
from umbel.data.corpus.build import build_corpus
from umbel.errors import AnnotationError, ManifestError
from umbel.genome.sequence import decode, revcomp
from umbel.progress import Reporter

CONFIG = CorpusConfig(window_bp=512, overlap_bp=0, duplicates=DuplicatesConfig(ani=0.0), min_n50_bp=0)


def write(folder, contigs, extra="", tables=""):
    """A project of one assembly with these contigs (name to codes or text), all of them training."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: codes if isinstance(codes, str) else decode(codes) for name, codes in contigs.items()}
    (folder / "a.fa").write_text("".join(f">{name}\n{text}\n" for name, text in texts.items()))
    manifest = folder / "m.toml"
    manifest.write_text(
        f'[[assembly]]\nspecies = "S"\nassembly = "a"\nfasta = "a.fa"\n{extra}\ncontigs.train = ["*"]\n{tables}'
    )
    return manifest


def hold_out(manifest, contig):
    """Give one contig the role test."""
    roles = f'contigs = {{ train = ["*"], test = ["{contig}"] }}'
    manifest.write_text(manifest.read_text().replace('contigs.train = ["*"]', roles))


def soft(corpus, contig, length):
    return corpus.read("a", contig, 0, length)[1]


def test_an_imported_mask_takes_the_place_of_the_lower_case(tmp_path):
    rng = np.random.default_rng(0)
    text = decode(random_codes(rng, 3_001)).lower()
    (tmp_path / "r.bed").write_text("one\t100\t400\none\t350\t500\ntwo\t2999\t3001\n")
    manifest = write(tmp_path, {"one": text, "two": text}, 'repeats = "r.bed"')
    corpus = build_corpus(manifest, tmp_path / "c", CONFIG)
    assert np.flatnonzero(soft(corpus, "one", 3_001)).tolist() == list(range(100, 500))
    assert np.flatnonzero(soft(corpus, "two", 3_001)).tolist() == [2_999, 3_000]
    codes, _ = corpus.read("a", "two", 0, 3_001)
    assert decode(codes) == text.upper()
    (told,) = corpus.facts["assemblies"]
    assert told["repeats_from"] == {"source": "import", "masked_frac": pytest.approx(402 / 6_002)}
    assert told["repeats"]["name"] == "r.bed" and told["statistics"]["soft_masked_frac"] == 1.0
    assert sum(corpus.windows["soft_masked"]) == 402


def test_none_forgets_the_lower_case_and_keep_keeps_it(tmp_path):
    text = decode(random_codes(np.random.default_rng(0), 2_000)).lower()
    kept = build_corpus(write(tmp_path / "k", {"one": text}), tmp_path / "kc", CONFIG)
    none = build_corpus(write(tmp_path / "n", {"one": text}, 'repeat_mask = "none"'), tmp_path / "nc", CONFIG)
    assert soft(kept, "one", 2_000).all() and not soft(none, "one", 2_000).any()
    assert none.facts["assemblies"][0]["repeats_from"] == {"source": "none", "masked_frac": 0.0}


def test_repeats_are_found_by_the_assemblys_own_kmers_on_either_strand(tmp_path):
    rng = np.random.default_rng(1)
    genome, element = random_codes(rng, 40_000), random_codes(rng, 1_000)
    planted = np.zeros(40_000, bool)
    for number, start in enumerate(range(2_000, 40_000, 4_000)):
        copy = mutated(rng, element, 0.01)
        genome[start : start + 1_000] = revcomp(copy) if number % 2 else copy
        planted[start : start + 1_000] = True
    manifest = write(tmp_path, {"one": genome}, 'repeat_mask = "kmer"')
    corpus = build_corpus(manifest, tmp_path / "c", CONFIG)
    found = soft(corpus, "one", 40_000)
    assert found[planted].mean() > 0.97 and found[~planted].mean() < 0.01
    told = corpus.facts["assemblies"][0]["repeats_from"]
    assert told["source"] == "kmer" and told["min_copies"] == 3 and told["k"] > 8
    assert told["masked_frac"] == pytest.approx(found.mean())


def test_what_every_subgenome_has_is_no_repeat(tmp_path):
    rng = np.random.default_rng(6)
    genome, homeolog = random_codes(rng, 40_000), random_codes(rng, 1_000)
    for start in (2_000, 12_000, 22_000, 32_000):
        genome[start : start + 1_000] = homeolog
    settings = 'repeat_mask = "kmer"'
    plain = build_corpus(write(tmp_path / "one", {"one": genome}, settings), tmp_path / "c", CONFIG)
    manifest = write(tmp_path / "two", {"one": genome}, settings + '\nsubgenomes = ["A", "C"]')
    polyploid = build_corpus(manifest, tmp_path / "d", CONFIG)
    # Four copies are more than three, and fewer than three times two.
    assert soft(plain, "one", 40_000).sum() == pytest.approx(4_000, abs=20)
    assert not soft(polyploid, "one", 40_000).any()
    assert polyploid.facts["assemblies"][0]["repeats_from"]["min_copies"] == 6


def test_a_mask_that_finds_next_to_nothing_is_flagged(tmp_path, capsys):
    genome = random_codes(np.random.default_rng(2), 20_000)
    manifest = write(tmp_path, {"one": genome}, 'repeat_mask = "kmer"')
    build_corpus(manifest, tmp_path / "c", CONFIG, reporter=Reporter())
    assert "a: only 0.00% of its bases are repeats by its k-mers" in capsys.readouterr().err
    (tmp_path / "i").mkdir()
    (tmp_path / "i/r.bed").write_text("one\t0\t20\n")
    manifest = write(tmp_path / "i", {"one": genome}, 'repeats = "r.bed"')
    build_corpus(manifest, tmp_path / "d", CONFIG, reporter=Reporter())
    assert "a: only 0.10% of its bases are repeats by the imported file. Is it the mask" in capsys.readouterr().err


def test_repeats_of_another_assembly_are_refused(tmp_path):
    (tmp_path / "r.bed").write_text("chr1\t0\t20\n")
    manifest = write(tmp_path, {"one": random_codes(np.random.default_rng(0), 2_000)}, 'repeats = "r.bed"')
    with pytest.raises(AnnotationError, match=r"r\.bed, line 1: .*'chr1'"):
        build_corpus(manifest, tmp_path / "c", CONFIG)
    assert not (tmp_path / "c").exists()


def test_organelles_are_screened_out_whatever_their_strand_and_pieces_of_them_stay(tmp_path):
    rng = np.random.default_rng(3)
    plastid, nuclear = random_codes(rng, 20_000), random_codes(rng, 60_000)
    nuclear[10_000:15_000] = plastid[:5_000]
    contigs = {"chr": nuclear, "cp": revcomp(mutated(rng, plastid, 0.002)), "other": random_codes(rng, 4_000)}
    (tmp_path / "cp.fa").write_text(f">cp\n{decode(plastid)}\n")
    (tmp_path / "mt.fa").write_text(f">mt\n{decode(random_codes(rng, 9_000))}\n")
    tables = '[[screen]]\nname = "plastid"\nfasta = "cp.fa"\n[[screen]]\nname = "mitochondrion"\nfasta = "mt.fa"\n'
    corpus = build_corpus(write(tmp_path, contigs, tables=tables), tmp_path / "c", CONFIG)
    assert {each.contig: (each.role, each.reason) for each in corpus.contigs()} == {
        "chr": ("train", ""),
        "cp": ("", "screened"),
        "other": ("train", ""),
    }
    told = {each["name"]: (each["n_contigs"], each["n_bases"]) for each in corpus.facts["screens"]}
    assert told == {"plastid": (1, 20_000), "mitochondrion": (0, 0)}
    (row,) = corpus.facts["waterfall"]
    assert row["fates"]["screened"] == 20_000 and row["in"] == sum(row["fates"].values())


def test_benchmarks_are_taken_out_by_coordinates_and_by_kmers_on_either_strand(tmp_path):
    rng = np.random.default_rng(4)
    contigs = {"one": random_codes(rng, 8_192), "two": random_codes(rng, 8_192), "three": random_codes(rng, 8_192)}
    records = [contigs["one"][1_000:1_170], revcomp(contigs["two"][5_000:5_170]), random_codes(rng, 170)]
    (tmp_path / "b.fa").write_text("".join(f">{i}\n{decode(codes)}\n" for i, codes in enumerate(records)))
    (tmp_path / "b.bed").write_text("two\t100\t200\ntwo\t150\t300\nthree\t0\t8192\n")
    tables = (
        '[[exclude]]\nname = "promoters"\nfasta = "b.fa"\n[[exclude]]\nname = "loci"\nbed = "b.bed"\nassembly = "a"\n'
    )
    manifest = write(tmp_path, contigs, tables=tables)
    manifest.write_text(
        manifest.read_text().replace('contigs.train = ["*"]', 'contigs = {train=["*"], test=["three"]}')
    )
    corpus = build_corpus(manifest, tmp_path / "c", CONFIG)
    seen = {name: np.zeros(8_192, bool) for name in contigs}
    for i in range(corpus.n_windows):
        window = corpus.window(i)
        seen[window.contig][window.start : window.end] = True
    gone = {"one": [(1_000, 1_170)], "two": [(100, 300), (5_000, 5_170)], "three": []}
    for name, spans in gone.items():
        wanted = np.ones(8_192, bool)
        for start, end in spans:
            wanted[start:end] = False
        assert np.array_equal(seen[name], wanted), name
    told = {each["name"]: each["n_bases"] for each in corpus.facts["exclusions"]}
    # The test may hold its own benchmark: what is there is not learnt.
    assert told == {"promoters": 340, "loci": 200}
    assert corpus.facts["waterfall"][0]["fates"]["benchmark"] == 540


def test_a_file_that_changed_since_it_was_added_is_refused_with_both_checksums(tmp_path):
    import hashlib

    manifest = write(tmp_path, {"one": random_codes(np.random.default_rng(0), 2_000)})
    before = hashlib.sha256((tmp_path / "a.fa").read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace('fasta = "a.fa"', f'fasta = "a.fa"\nsha256 = "{before}"'))
    build_corpus(manifest, tmp_path / "c", CONFIG)
    text = (tmp_path / "a.fa").read_text()
    (tmp_path / "a.fa").write_text(text + ">new\nACGT\n")
    after = hashlib.sha256((tmp_path / "a.fa").read_bytes()).hexdigest()
    with pytest.raises(ManifestError) as caught:
        build_corpus(manifest, tmp_path / "d", CONFIG)
    assert before in str(caught.value) and after in str(caught.value) and "a.fa" in str(caught.value)
    assert not (tmp_path / "d").exists() and not (tmp_path / "d.partial").exists()


def test_a_homeologous_group_in_two_roles_is_refused(tmp_path):
    contigs = {f"chr7{letter}": random_codes(np.random.default_rng(ord(letter)), 2_000) for letter in "ABD"}
    manifest = write(tmp_path, contigs, "homeologs = 'chr(?P<group>\\d)[ABD]'")
    build_corpus(manifest, tmp_path / "c", CONFIG)
    manifest.write_text(
        manifest.read_text().replace('contigs.train = ["*"]', 'contigs = {train=["*"], test=["chr7A"]}')
    )
    with pytest.raises(ManifestError, match=r"chr7A is test and chr7B train, but both are of homeologous group 7"):
        build_corpus(manifest, tmp_path / "d", CONFIG)


def test_every_stage_reports_what_it_goes_through_as_it_goes(tmp_path, monkeypatch):
    """A job that only reports when it ends would leave the bar of a large assembly at 0."""
    from umbel.data.corpus import executors, masks, pieces

    reports = []
    plain = executors._Rest.advance

    def noted(rest, amount):
        reports.append(amount)
        plain(rest, amount)

    monkeypatch.setattr(executors._Rest, "advance", noted)
    monkeypatch.setattr(masks, "PIECE_BP", 1 << 12)
    genome = random_codes(np.random.default_rng(5), 40_000)
    (tmp_path / "cp.fa").write_text(f">cp\n{decode(genome[:500])}\n")
    tables = '[[screen]]\nname = "plastid"\nfasta = "cp.fa"\n'
    manifest = write(tmp_path, {"one": genome}, 'repeat_mask = "kmer"', tables)
    build_corpus(manifest, tmp_path / "c", CONFIG)
    # Ten pieces each for the k-mers of one pass, the repeats found by them, and the bases written.
    assert sum(amount == 1 << 12 for amount in reports) == 27
    assert pieces.silent(1) is None
