"""Repeats against plain counts and planted families; the soft mask of packed bases; whose counts are taken."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from packed import mutated, random_bases, write_packed

from umbel.data.corpus import masks
from umbel.data.corpus.arrays import ArrayFile
from umbel.data.corpus.masks import CountJob, MaskJob, RepeatCounts, apply_mask, count_repeats, repeat_k, repeat_runs
from umbel.errors import CorpusError
from umbel.genome.runs import as_runs
from umbel.genome.sequence import revcomp, unpack
from umbel.genome.sketch import sketch


def repetitive(seed=0):
    """Contigs with a motif that is there more or less often, on both strands, and some N."""
    motif = random_bases(300, seed)
    parts = [random_bases(100, seed + 1)]
    for number in range(8):
        copy = mutated(motif, 0.02 * number, seed + number)
        parts += [revcomp(copy) if number % 2 else copy, random_bases(57, seed + 10 + number)]
    first = np.concatenate(parts)
    first[500:510] = 4
    return [first, random_bases(30, seed + 2), np.concatenate((motif, random_bases(401, seed + 3)))]


@pytest.fixture
def toy(tmp_path):
    return write_packed(tmp_path / "a.nibbles", repetitive(), "toy", "0123456789abcdef")


def read_packed(assembly, path=None):
    packed = np.fromfile(path or assembly.path, np.uint8)
    parts = [packed[offset : offset + -(-length // 2)] for length, offset in assembly.contigs]
    return [unpack(part, 0, length) for part, (length, _) in zip(parts, assembly.contigs, strict=True)]


def test_the_least_k_at_which_chance_makes_few_repeats():
    for n_bases in (1000, 10**6, 10**8, 10**10):
        k = repeat_k(n_bases)
        assert 2 * n_bases / 4**k <= 0.01 < 2 * n_bases / 4 ** (k - 1)
    # Random sequence of that length has few: 3 copies at rate 0.01 are met once in 20,000 places.
    hashes = sketch(random_bases(300_000), repeat_k(300_000), 1)[0]
    _, copies = np.unique(hashes, return_counts=True)
    assert copies[copies >= 3].sum() < 1e-3 * len(hashes)


@pytest.mark.parametrize("memory_bytes", [1 << 30, 4000])
@pytest.mark.parametrize("min_copies", [2, 3, 6])
def test_counts_are_those_of_a_plain_counter_whatever_the_memory(toy, tmp_path, min_copies, memory_bytes, monkeypatch):
    monkeypatch.setattr(masks, "PIECE_BP", 700)
    told = count_repeats(CountJob(toy, tmp_path / "a.counts", min_copies, 11, memory_bytes))
    plain = Counter(int(h) for codes in repetitive() for h in sketch(codes, 11, 1)[0])
    wanted = sorted(h for h, n in plain.items() if n >= min_copies)
    counts = RepeatCounts(tmp_path / "a.counts")
    assert counts.kmers.hashes.tolist() == wanted and len(wanted) > 0
    assert told["n_passes"] == (1 if memory_bytes > 4000 else -(-toy.n_bases * 9 // 4000))
    assert (told["n_repeats"], told["n_kmers"]) == (len(wanted), len(plain))
    spectrum = Counter(plain.values())
    assert told["spectrum"] == [spectrum[n] for n in range(1, 257)]
    assert (counts.name, counts.content, counts.k, counts.min_copies) == ("toy", toy.content, 11, min_copies)


def test_the_bytes_of_counts_do_not_depend_on_the_memory(toy, tmp_path):
    count_repeats(CountJob(toy, tmp_path / "a", 2, 11))
    count_repeats(CountJob(toy, tmp_path / "b", 2, 11, 3000))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_kmers_beyond_their_share_of_a_pass_find_room(tmp_path):
    """Poly-A is one k-mer, all in one pass."""
    toy = write_packed(tmp_path / "a.nibbles", [np.zeros(30_000, np.uint8)])
    told = count_repeats(CountJob(toy, tmp_path / "a.counts", 3, 11, 12_000))
    assert told["spectrum"][255] == told["n_kmers"] == told["n_repeats"] == 1


def planted(seed, genome_bp=1_000_000, n_families=4):
    """A genome with 60 % of it in families whose copies diverge by 2, 10, 20 or 30 %; where each class lies."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1000, 2500, n_families)
    families = [random_bases(int(length), seed + 1 + i) for i, length in enumerate(lengths)]
    parts, spans, place = [], {0.02: [], 0.1: [], 0.2: [], 0.3: [], None: []}, 0
    repeat_bp = 0
    number = 0
    while place < genome_bp:
        number += 1
        if repeat_bp < 0.6 * place:
            family = int(rng.integers(n_families))
            divergence = (0.02, 0.1, 0.2, 0.3)[family % 4]
            part = mutated(families[family], divergence, seed + 100 + number)
            part = revcomp(part) if rng.random() < 0.5 else part
            repeat_bp += len(part)
            spans[divergence].append((place, place + len(part)))
        else:
            part = random_bases(int(rng.integers(500, 3000)), seed + 10**6 + number)
            spans[None].append((place, place + len(part)))
        parts.append(part)
        place += len(part)
    return np.concatenate(parts), spans


def test_own_counts_find_young_repeats_and_foreign_counts_find_nothing(tmp_path):
    """The row "own k-mer multiplicity, k=17, c>=3, gap 50" of our survey of maskers, at a small size."""
    codes, spans = planted(1)
    toy = write_packed(tmp_path / "a.nibbles", [codes], "own", "a")
    other = write_packed(tmp_path / "b.nibbles", [planted(7000)[0]], "foreign", "b")
    for assembly in (toy, other):
        count_repeats(CountJob(assembly, tmp_path / f"{assembly.name}.counts", 3, 17))
    masked = {}
    for name in ("own", "foreign"):
        covered = np.zeros(len(codes), bool)
        for start, end in RepeatCounts(tmp_path / f"{name}.counts").mask_runs(codes, 50):
            covered[start:end] = True
        masked[name] = {d: np.concatenate([covered[a:b] for a, b in runs]).mean() for d, runs in spans.items()}
    own = masked["own"]
    assert own[0.02] > 0.98
    assert 0.5 < own[0.1] < 0.95
    assert 0.02 < own[0.2] < 0.3
    assert own[0.3] < 0.08
    assert own[None] < 0.01
    assert max(masked["foreign"].values()) < 0.002


def test_the_counts_of_another_assembly_are_refused(toy, tmp_path):
    count_repeats(CountJob(replace(toy, name="other", content="fedcba9876543210"), tmp_path / "b.counts", 2, 11))
    told = (
        r"b\.counts: these are the k-mers of 'other' \(fedcba987654\), .* of 'toy' \(0123456789ab\)\. Count the k-mers"
    )
    with pytest.raises(CorpusError, match=told):
        list(repeat_runs(toy, RepeatCounts(tmp_path / "b.counts"), 50))
    before = toy.path.read_bytes()
    with pytest.raises(CorpusError, match=told):
        apply_mask(MaskJob(toy, toy.path, "kmer", tmp_path / "b.counts", 50))
    assert toy.path.read_bytes() == before


@pytest.mark.parametrize("piece_bp", [200, 1 << 21])
def test_masks_replace_the_old_one_and_leave_the_bases(tmp_path, piece_bp, monkeypatch):
    monkeypatch.setattr(masks, "PIECE_BP", piece_bp)
    contigs = repetitive()
    old = [np.random.default_rng(i).random(len(codes)) < 0.3 for i, codes in enumerate(contigs)]
    toy = write_packed(tmp_path / "a.nibbles", contigs, "toy", "x", old)
    count_repeats(CountJob(toy, tmp_path / "a.counts", 3, 11))
    counts = RepeatCounts(tmp_path / "a.counts")
    imported = {0: as_runs([(0, 3), (199, 201), (400, 900)]), 2: as_runs([(700, 701)])}
    wanted = {
        "kmer": [counts.mask_runs(codes, 20) for codes in contigs],
        "import": [imported.get(contig, as_runs([])) for contig in range(3)],
        "none": [as_runs([])] * 3,
    }
    assert len(wanted["kmer"][0]) > 1
    for mode, runs in wanted.items():
        out = tmp_path / f"{mode}.nibbles"
        told = apply_mask(MaskJob(toy, out, mode, tmp_path / "a.counts", 20, imported))
        assert out.stat().st_size == toy.path.stat().st_size
        for (codes, soft), given, spans, n_masked in zip(
            read_packed(toy, out), contigs, runs, told["n_masked"], strict=True
        ):
            painted = np.zeros(len(codes), bool)
            for start, end in spans:
                painted[start:end] = True
            assert (codes == given).all() and (soft == painted).all() and n_masked == painted.sum()
        # The spare nibble of an odd contig stays 0, so that equal sequences are equal bytes.
        assert len(contigs[2]) % 2 == 1 and out.read_bytes()[-1] < 16


def test_a_mask_may_replace_the_file_it_was_made_of(toy, tmp_path):
    apply_mask(MaskJob(toy, tmp_path / "b.nibbles", "import", runs={1: as_runs([(3, 9)])}))
    apply_mask(MaskJob(toy, toy.path, "import", runs={1: as_runs([(3, 9)])}))
    assert toy.path.read_bytes() == (tmp_path / "b.nibbles").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nibbles", "b.nibbles"]


def test_what_cannot_be_is_refused_and_leaves_nothing(toy, tmp_path):
    with pytest.raises(CorpusError, match="toy: contig 1 has 30 bases, but a repeat of it is at 5 to 31"):
        apply_mask(MaskJob(toy, tmp_path / "b.nibbles", "import", runs={1: as_runs([(5, 31)])}))
    with pytest.raises(ValueError, match="mode 'kmer' needs counts"):
        apply_mask(MaskJob(toy, tmp_path / "b.nibbles", "kmer"))
    with pytest.raises(ValueError, match="min_copies is 1: give at least 2"):
        count_repeats(CountJob(toy, tmp_path / "a.counts", 1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nibbles"]


def test_k_of_zero_is_chosen_by_length(toy, tmp_path):
    assert count_repeats(CountJob(toy, tmp_path / "a.counts", 2))["k"] == repeat_k(toy.n_bases)
    assert ArrayFile(tmp_path / "a.counts").facts["k"] == repeat_k(toy.n_bases)
