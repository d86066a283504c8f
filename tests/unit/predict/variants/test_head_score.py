import numpy as np
import pysam.bcftools
import pytest
import torch
from toys import toy_run
from variant_fakes import PlantedPredictor, random_letters, write_genome, write_vcf

from umbel.data.kmers import KmerTokens
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError
from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.model.hf import new_model
from umbel.model.tuned import with_head
from umbel.predict.head import Head
from umbel.predict.variants.head_score import HeadDifference
from umbel.predict.variants.scoring import score_variants
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.windows import cut_window

TEXT = random_letters(0, 300)


class PlantedHead:
    """Outputs that are counted by hand: of bases along the sequence, or of the sequence as a whole."""

    def __init__(self, task, say):
        self.task, self._say, self.asked = task, say, []

    def outputs(self, codes, strand="forward"):
        assert strand == "both"
        self.asked += [len(sequence) for sequence in codes]
        return [np.asarray(self._say(sequence), np.float32) for sequence in codes]


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    with Reference.open(write_genome(tmp_path_factory.mktemp("genome"), {"c": TEXT})) as opened:
        yield opened


def windows(genome):
    other = "ACGT"[("ACGT".index(TEXT[50]) + 1) % 4]
    cases = [Variant("c", 50, TEXT[50], other), Variant("c", 50, "", "GGG"), Variant("c", 50, TEXT[50:54], "")]
    return [cut_window(one, genome, 10) for one in cases]


def share(codes):
    return np.bincount(codes, minlength=4)[:4] / 3.0


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_two_classes_by_log_odds(genome):
    head = HeadDifference(PlantedHead(Task("binary", ("no", "yes")), lambda codes: share(codes)[:2]))
    assert head.names == ("yes",)
    found = head.differences(windows(genome))
    assert found.shape == (3, 1)
    for value, window in zip(found[:, 0], windows(genome), strict=True):
        odds = [np.diff(share(codes)[:2])[0] for codes in (window.ref, window.alt)]
        assert value == pytest.approx(odds[1] - odds[0], abs=1e-6)


def test_classes_labels_and_numbers(genome):
    three = ("root tip", "leaf", "root-tip")
    for kind, turn in (("multiclass", log_softmax), ("multilabel", lambda x: x), ("regression", lambda x: x)):
        head = HeadDifference(PlantedHead(Task(kind, three), lambda codes: share(codes)[:3]))
        assert head.names == ("root_tip", "leaf", "root_tip_2")
        expected = [turn(share(w.alt)[:3]) - turn(share(w.ref)[:3]) for w in windows(genome)]
        np.testing.assert_allclose(head.differences(windows(genome)), expected, atol=1e-6)


def test_classes_of_bases_are_compared_base_by_base(genome):
    """Along the sequence only bases that both windows have are compared, so an insertion shifts nothing."""

    def say(codes):
        return np.stack([codes == 2, np.roll(codes, 1) == 1], 1) * 3.0

    found = HeadDifference(PlantedHead(Task("bases", ("x", "y")), say)).differences(windows(genome))
    for row, window in zip(found, windows(genome), strict=True):
        ref, alt = (np.exp(log_softmax(say(codes))) for codes in (window.ref, window.alt))
        pairs = [(i, i) for i in range(10)] + [(-i, -i) for i in range(1, 11)]
        if window.variant.kind == "snv":
            pairs.append((10, 10))
        np.testing.assert_allclose(row, sum(np.abs(alt[b] - ref[a]) for a, b in pairs), atol=1e-5)


def test_bins_are_compared_through_their_bases(genome):
    def say(codes):
        return np.array([[codes[i : i + 4].sum()] for i in range(0, len(codes), 4)], float)

    head = HeadDifference(PlantedHead(Task("bins", ("track",), 4), say))
    for value, window in zip(head.differences(windows(genome))[:, 0], windows(genome), strict=True):
        ref, alt = ([say(codes)[i // 4, 0] for i in range(len(codes))] for codes in (window.ref, window.alt))
        pairs = [(i, i) for i in range(10)] + [(-i, -i) for i in range(1, 11)]
        if window.variant.kind == "snv":
            pairs.append((10, 10))
        assert value == pytest.approx(sum(abs(alt[b] - ref[a]) for a, b in pairs) / 4)


def test_each_window_is_asked_once(genome):
    head = PlantedHead(Task("regression", ("x",)), lambda codes: share(codes)[:1])
    HeadDifference(head).differences(windows(genome) * 3)
    assert len(head.asked) == 6


def test_a_tuned_model_scores_variants(tmp_path):
    tuned = with_head(new_model(toy_run().model, 256, 0), {"kind": "regression", "names": ["strength"]}, seed=1)
    head = Head(tuned.eval(), "tuned-1", torch.device("cpu"), KmerTokens(1), tmp_path / "tuned")
    inputs = write_vcf(tmp_path, [f"c 51 . {TEXT[50]} <DEL> . . END=53"]), write_genome(tmp_path, {"c": TEXT})
    settings = VariantSettings(("head",), 64, 10, background=0)
    fake = PlantedPredictor()
    assert score_variants(fake, *inputs, tmp_path / "a.parquet", settings=settings, head=head).scored_records == 1
    result = score_variants(fake, *inputs, tmp_path / "a.vcf.gz", settings=settings, head=head)
    value = float(pysam.bcftools.query("-f", "%UMBEL_HEAD_strength\n", str(result.path)))
    first = 51 - settings.flank_bp
    with Reference.open(inputs[1]) as genome:
        ref = genome.fetch("c", max(0, first), 53 + settings.flank_bp)
    with pytest.raises(ConfigError, match="head is not among --score: add it"):
        score_variants(fake, *inputs, tmp_path / "b.vcf.gz", head=head)
    # The leftmost place of this deletion is where it was told.
    alt = np.concatenate([ref[: settings.flank_bp], ref[settings.flank_bp + 2 :]])
    said = [each[0] for each in head.outputs([ref, alt], "both")]
    assert value == pytest.approx(said[1] - said[0], rel=1e-3, abs=1e-6)
