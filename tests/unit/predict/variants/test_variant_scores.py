import numpy as np
import pytest
import torch
from toys import toy_run
from variant_fakes import PlantedPredictor, random_letters, write_genome

from umbel.data.kmers import KmerTokens
from umbel.genome.reference import Reference
from umbel.genome.sequence import encode, revcomp
from umbel.genome.variant import Variant
from umbel.model.hf import new_model
from umbel.predict.predictor import Predictor
from umbel.predict.variants.scores import (
    embedding_distances,
    log_likelihood_ratios,
    pseudo_likelihood_differences,
    score_windows,
)
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.windows import cut_window

FLANK = 20
MASK, FIRST_BASE = 3, 7


@pytest.fixture(scope="module")
def predictor():
    return Predictor(new_model(toy_run().model, 256, 0), "random-0", torch.device("cpu"), KmerTokens(1))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = write_genome(
        tmp_path_factory.mktemp("genome"), {"c": random_letters(0, 400), "short": random_letters(1, 25)}
    )
    with Reference.open(path) as opened:
        yield opened


def letters(genome, start, end, contig="c"):
    return "".join("ACGTN"[code] for code in genome.fetch(contig, start, end))


def other(letter, by=1):
    return "ACGT"[("ACGT".index(letter) + by) % 4]


def variant(genome, start, n_ref, alt, contig="c"):
    return Variant(contig, start, letters(genome, start, start + n_ref, contig), alt)


@torch.no_grad()
def log_probs(predictor, codes, hidden, turned):
    """One sequence, one pass, by hand: log P of A, C, G, T at the hidden bases of the sequence as given."""
    shown, mask = (revcomp(codes), hidden[::-1]) if turned else (codes, hidden)
    ids = shown.astype(np.int64) + FIRST_BASE
    ids[mask] = MASK
    logits = predictor._model(torch.tensor([[0, *ids.tolist(), 1]])).logits[0, 1:-1, FIRST_BASE : FIRST_BASE + 4]
    found = logits.double().log_softmax(-1).numpy()[mask]
    return found[::-1, ::-1] if turned else found


def test_ratio_of_substitutions_by_hand(predictor, genome):
    a = letters(genome, 100, 104)
    mnv = Variant("c", 100, a, other(a[0]) + a[1:3] + other(a[3], 2))
    end = variant(genome, 398, 2, "")
    end = Variant("c", 398, end.ref, end.ref[0] + other(end.ref[1]))
    found = log_likelihood_ratios(predictor, [cut_window(v, genome, FLANK) for v in (mnv, end)])
    expected = []
    for one, start, stop in ((mnv, 80, 124), (end, 378, 400)):
        codes = genome.fetch("c", start, stop)
        new = encode(one.alt.encode())[0]
        hidden = np.zeros(len(codes), bool)
        hidden[one.start - start : one.end - start] = [x != y for x, y in zip(one.ref, one.alt, strict=True)]
        alt = codes.copy()
        alt[one.start - start : one.end - start] = new
        rows = np.arange(hidden.sum())
        both = [log_probs(predictor, codes, hidden, turned) for turned in (False, True)]
        expected.append(np.mean([(logs[rows, alt[hidden]] - logs[rows, codes[hidden]]).sum() for logs in both]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected).min() > 1e-4


def test_pseudo_likelihood_by_hand(predictor, genome):
    """Base by base, pass by pass: the mates of each flank base are those that the other window has too."""
    ref = letters(genome, 200, 203)
    cases = [Variant("c", 200, ref, ""), Variant("c", 200, "", "ACGTACGTAC"), variant(genome, 3, 1, "GG")]
    found = pseudo_likelihood_differences(predictor, [cut_window(v, genome, FLANK) for v in cases], 4)
    for value, one in zip(found, cases, strict=True):
        first, last = max(0, one.start - FLANK), min(400, one.end + FLANK)
        left, right = one.start - first, last - one.end
        total = {}
        for name, allele in (("ref", one.ref), ("alt", one.alt)):
            middle = encode(allele.encode())[0]
            codes = np.concatenate([genome.fetch("c", first, one.start), middle, genome.fetch("c", one.end, last)])
            groups = {}
            for i in range(len(codes)):
                if i < left:
                    group = ("flank", i % 4)
                elif i >= len(codes) - right:
                    group = ("flank", (len(codes) - 1 - i) % 4)
                else:
                    group = ("allele", (i - left) % 4)
                groups.setdefault(group, []).append(i)
            total[name] = 0.0
            for members in groups.values():
                hidden = np.zeros(len(codes), bool)
                hidden[members] = True
                for turned in (False, True):
                    logs = log_probs(predictor, codes, hidden, turned)
                    total[name] += logs[np.arange(len(members)), codes[hidden]].sum() / 2
        assert value == pytest.approx(total["alt"] - total["ref"], abs=1e-4)


def test_embedding_distance_by_hand(predictor, genome):
    one = variant(genome, 50, 2, "ACGTTT")
    window = cut_window(one, genome, FLANK)
    vectors = [
        (predictor.embed([codes], "forward")[0] + predictor.embed([revcomp(codes)], "forward")[0]) / 2
        for codes in (window.ref, window.alt)
    ]
    expected = np.linalg.norm(vectors[1] - vectors[0])
    assert embedding_distances(predictor, [window])[0] == pytest.approx(expected, abs=1e-5)


def test_windows_end_with_the_contig(genome):
    window = cut_window(variant(genome, 0, 1, "", "short"), genome, FLANK)
    assert (len(window.left), len(window.right)) == (0, 20)
    assert "".join("ACGT"[c] for c in window.alt) == letters(genome, 1, 21, "short")
    behind = cut_window(Variant("short", 25, "", "A"), genome, FLANK)
    assert (len(behind.left), len(behind.right)) == (20, 0)


def test_flank_bases_keep_their_mates(genome):
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, n_ref, n_alt = int(rng.integers(0, 390)), int(rng.integers(0, 9)), int(rng.integers(0, 9))
        one = variant(genome, start, n_ref, random_letters(1, n_alt) if n_alt else "")
        window = cut_window(one, genome, int(rng.integers(1, 40)))
        n_left, n_right, passes = len(window.left), len(window.right), int(rng.integers(1, 9))
        mates = []
        for bases in (n_ref, n_alt):
            phases = window.phases(bases, passes)
            assert len(phases) == n_left + bases + n_right
            assert (phases[n_left : n_left + bases] >= passes).all()
            flanks = np.concatenate([phases[:n_left], phases[n_left + bases :]])
            assert (flanks < passes).all()
            mates.append(flanks)
        np.testing.assert_array_equal(*mates)


def test_one_pass_for_all_alleles_at_a_site(genome):
    fake = PlantedPredictor()
    base = letters(genome, 100, 101)
    three = [cut_window(Variant("c", 100, base, other(base, by)), genome, FLANK) for by in (1, 2, 3)]
    elsewhere = cut_window(variant(genome, 200, 1, other(letters(genome, 200, 201))), genome, FLANK)
    values = log_likelihood_ratios(fake, [*three, elsewhere, *three])
    assert fake.calls == [2]
    np.testing.assert_array_equal(values[:3], values[4:])
    fake.calls.clear()
    inserted = [cut_window(Variant("c", 100, "", text), genome, FLANK) for text in ("A", "CCC", "A")]
    pseudo_likelihood_differences(fake, inserted, 8)
    assert fake.calls == [3]


def test_each_kind_gets_its_scores(genome):
    snv = cut_window(variant(genome, 100, 1, other(letters(genome, 100, 101))), genome, FLANK)
    deletion = cut_window(variant(genome, 100, 1, ""), genome, FLANK)

    def filled(settings):
        found = score_windows(PlantedPredictor(), [snv, deletion], settings)
        return {name: np.isfinite(values).tolist() for name, values in found.items()}

    assert filled(VariantSettings()) == {"llr": [True, False], "pll": [False, True]}
    assert filled(VariantSettings(("embedding", "pll"))) == {"pll": [True, True], "embedding": [True, True]}
    assert filled(VariantSettings(("llr",))) == {"llr": [True, False]}
