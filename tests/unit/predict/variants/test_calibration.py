import numpy as np
import pytest
from scipy.stats import percentileofscore, spearmanr
from variant_fakes import PlantedPredictor, random_letters, write_genome

from umbel.errors import RunError
from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.predict.variants.alleles import Limits
from umbel.predict.variants.background import draw_variants, read_background, score_background, write_background
from umbel.predict.variants.calibration import Calibration, Shape, classes_of, effect, shape_of
from umbel.predict.variants.scores import score_windows
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.windows import cut_window
from umbel.progress import Reporter

SNV = Shape(1, 1, True)
LIMITS = Limits(50, 30)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    text = random_letters(0, 6_000)
    contigs = {"a": text[:4_000] + "N" * 3_000 + text[4_000:5_000], "b": text[5_000:]}
    with Reference.open(write_genome(tmp_path_factory.mktemp("genome"), contigs)) as opened:
        yield opened


def test_percentile_and_z_by_their_definitions():
    values = np.random.default_rng(0).normal(size=101).round(1)
    calibration = Calibration({SNV: {"llr": values}}, 50)
    for score in (*np.unique(values)[::7], -9.0, 9.0, 0.05):
        percent, z = calibration.of("llr", SNV, score)
        assert percent == pytest.approx(percentileofscore(-values, -score, kind="mean"))
        mad = np.median(np.abs(values - np.median(values)))
        assert z == pytest.approx((score - np.median(values)) / (1.4826 * mad))
    assert calibration.of("llr", SNV, -9.0)[0] == 100.0 and calibration.of("llr", SNV, 9.0)[0] == 0.0


def test_effects_point_one_way():
    assert effect("pll", np.array([-3.0, 1.0])).tolist() == [3.0, -1.0]
    assert effect("embedding", np.array([3.0])).tolist() == [3.0]
    assert effect("head_x", np.array([-3.0, 1.0])).tolist() == [3.0, 1.0]


def test_a_score_linear_in_length_is_calibrated_exactly():
    noise = np.random.default_rng(0).normal(size=200)
    classes = {Shape(0, n, False): {"pll": -1.4 * n + noise} for n in (1, 4, 16, 50)}
    classes |= {Shape(n, 0, False): {"pll": 1.4 * n + noise} for n in (1, 4, 16, 50)}
    calibration = Calibration(classes, 50)
    for own in (-2.0, 0.1, 1.0):
        found = [calibration.of("pll", Shape(0, n, False), -1.4 * n + own) for n in range(1, 51)]
        found += [calibration.of("pll", Shape(n, 0, False), 1.4 * n + own) for n in range(1, 51)]
        np.testing.assert_allclose(np.ptp(np.array(found), axis=0), 0, atol=1e-9)
        assert found[0][0] == pytest.approx(percentileofscore(-noise, -own, kind="mean"))


def test_replacements_lie_between_four_classes():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=100)
    grid = {Shape(r, a, False): {"pll": 2.0 * r - 3.0 * a + noise} for r in (1, 4) for a in (4, 16)}
    calibration = Calibration(grid, 50)
    assert sorted(one for one, _ in classes_of(Shape(2, 9, False), 50)) == sorted(grid)
    assert sum(weight for _, weight in classes_of(Shape(2, 9, False), 50)) == pytest.approx(1)
    z = [calibration.of("pll", Shape(r, a, False), 2.0 * r - 3.0 * a + 0.7)[1] for r in (1, 2, 4) for a in (4, 9, 16)]
    assert np.ptp(z) < 1e-9


def test_what_cannot_be_said_is_not():
    few = Calibration({SNV: {"llr": np.arange(9.0)}}, 50)
    assert np.isnan(few.of("llr", SNV, 1.0)).all()
    assert np.isnan(few.of("llr", Shape(4, 4, True), 1.0)).all()
    same = Calibration({SNV: {"llr": np.ones(50)}}, 50)
    percent, z = same.of("llr", SNV, 1.0)
    assert percent == 50.0 and np.isnan(z)
    assert same.of("llr", SNV, 0.0)[0] == 100.0
    assert np.isnan(same.of("llr", SNV, np.nan)).all()


def test_random_variants_are_what_was_asked_for(genome):
    shapes = [SNV, Shape(4, 4, True), Shape(0, 16, False), Shape(4, 0, False), Shape(1, 4, False), Shape(4, 4, False)]
    for shape in shapes:
        windows = draw_variants(shape, 60, genome, LIMITS, seed=0)
        assert len(windows) == 60
        for window in windows:
            one = window.variant
            assert not window.has_n
            assert (len(one.ref), len(one.alt)) == (shape.n_ref, shape.n_alt)
            np.testing.assert_array_equal(
                window.ref, genome.fetch(one.contig, one.start - len(window.left), one.end + len(window.right))
            )
            if shape.is_substitution:
                assert shape_of(one) == shape
        assert {window.variant.contig for window in windows} == {"a", "b"}
    again = draw_variants(SNV, 60, genome, LIMITS, seed=0)
    first = draw_variants(SNV, 60, genome, LIMITS, seed=0)
    assert [w.variant for w in again] == [w.variant for w in first]
    assert [w.variant for w in again] != [w.variant for w in draw_variants(SNV, 60, genome, LIMITS, seed=1)]


def test_all_substitutions_and_places_are_as_likely(genome):
    windows = draw_variants(SNV, 3_000, genome, Limits(1, 0), seed=0)
    pairs = {}
    for window in windows:
        pairs[window.variant.ref, window.variant.alt] = pairs.get((window.variant.ref, window.variant.alt), 0) + 1
    assert len(pairs) == 12 and min(pairs.values()) > 150
    share = sum(window.variant.contig == "b" for window in windows) / len(windows)
    assert abs(share - 1 / 6) < 0.03


def test_a_genome_without_room_gives_few(tmp_path):
    with Reference.open(write_genome(tmp_path, {"c": "N" * 500 + "ACGT" * 5})) as small:
        assert draw_variants(SNV, 20, small, LIMITS, seed=0, tries_a_draw=20) == []


def test_background_is_scored_as_variants_are(genome, tmp_path):
    fake, settings = PlantedPredictor(), VariantSettings(window_bp=120, max_allele_bp=50, background=50)
    shapes = {SNV, Shape(0, 4, False), Shape(4, 4, False)}
    said = Reporter(quiet=True)
    found = score_background(fake, shapes, genome, LIMITS, settings, tmp_path / "b", None, said)
    assert set(found) == shapes
    assert np.isfinite(found[SNV]["llr"]).all() and np.isnan(found[SNV]["pll"]).all()
    # What stands between replacements of several lengths gets the score of replacements.
    assert np.isfinite(found[Shape(4, 4, False)]["pll"]).all()
    windows = draw_variants(Shape(0, 4, False), 50, genome, LIMITS, 0)
    np.testing.assert_allclose(
        found[Shape(0, 4, False)]["pll"], score_windows(fake, windows, settings)["pll"], atol=1e-4
    )
    fake.calls.clear()
    again = score_background(fake, shapes, genome, LIMITS, settings, tmp_path / "b", None, said)
    assert fake.calls == [] and (again[SNV]["llr"] == found[SNV]["llr"]).all()


def test_calibrated_insertions_do_not_tell_their_length(genome, tmp_path):
    """The raw score falls with length, and Z does not know it."""
    fake = PlantedPredictor(per_base=-1.4, noise=0.4)
    settings = VariantSettings(window_bp=120, max_allele_bp=50, background=400)
    rng = np.random.default_rng(9)
    windows, lengths = [], rng.integers(1, 51, 250)
    for n in lengths:
        place, other = rng.integers(100, 3_800, 2)
        text = "".join("ACGT"[c] for c in genome.fetch("a", int(other), int(other + n)))
        windows.append(cut_window(Variant("a", int(place), "", text), genome, 30))
    scores = score_windows(fake, windows, settings)["pll"]
    classes = {one for n in range(1, 51) for one, _ in classes_of(Shape(0, n, False), 50)}
    drawn = score_background(fake, classes, genome, LIMITS, settings, tmp_path / "b", None, Reporter(quiet=True))
    calibration = Calibration(drawn, 50)
    found = np.array([calibration.of("pll", shape_of(w.variant), s) for w, s in zip(windows, scores, strict=True)])
    assert spearmanr(lengths, scores).statistic < -0.95
    assert abs(spearmanr(lengths, found[:, 1]).statistic) < 0.15
    assert abs(np.median(found[:, 1])) < 0.25 and 0.7 < 1.4826 * np.median(np.abs(found[:, 1])) < 1.4
    assert abs(np.median(found[:, 0]) - 50) < 10 and found[:, 0].min() >= 0 and found[:, 0].max() <= 100


def test_background_file(tmp_path):
    scores = {SNV: {"llr": np.array([1.0, np.nan, 3.0])}, Shape(0, 4, False): {"llr": np.array([2.0])}}
    path = tmp_path / "b.parquet"
    assert read_background(path, {"weights": "w"}) == {}
    write_background(path, scores, {"weights": "w"})
    back = read_background(path, {"weights": "w"})
    np.testing.assert_array_equal(back[SNV]["llr"], scores[SNV]["llr"])
    assert set(back) == set(scores)
    with pytest.raises(RunError, match="background of another model, genome or setting"):
        read_background(path, {"weights": "v"})
    path.write_text("x")
    with pytest.raises(RunError, match="no background that umbel wrote"):
        read_background(path, {"weights": "w"})
