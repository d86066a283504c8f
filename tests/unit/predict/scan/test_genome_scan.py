import json
from dataclasses import replace

import numpy as np
import pyBigWig
import pysam
import pytest
from scan_fakes import FakeHead, FakePredictor, base_table, page_scripts

from umbel.errors import CheckpointError, ConfigError, FastaError, RunError
from umbel.genome.annotation import gff3_rows
from umbel.genome.gff3_check import require_gff3
from umbel.genome.reference import Reference
from umbel.predict.scan import genome_scan, stretch_jobs
from umbel.predict.scan.genome_scan import forecast_scan, scan_tracks
from umbel.predict.scan.settings import TrackSettings
from umbel.predict.tracks.calls import CallSettings

SETTINGS = TrackSettings(window_bp=40, overlap_bp=16, stretch_bp=100)
NAMES = ["chr2", "chr10", "a:b|1"]


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    rng = np.random.default_rng(0)
    draw = lambda n: "".join(rng.choice(list("ACGTacgt"), n))  # noqa: E731
    contigs = {
        "chr2": draw(333) + "N" * 90 + draw(77),
        "chr10": draw(19),
        "a:b|1": "NN" + draw(150) + "R" + draw(10),
        "gap": "N" * 60,
        "two": "AC",
    }
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text("".join(f">{name} x\n{letters}\n" for name, letters in contigs.items()))
    return path


def read_bw(path, lengths):
    with pyBigWig.open(str(path)) as file:
        assert file.isBigWig() and file.chroms() == dict(lengths)
        return {
            name: np.array(file.values(name, 0, length) if file.intervals(name) else [np.nan] * length)
            for name, length in lengths.items()
        }


def test_tracks_equal_a_plain_loop_over_whole_contigs(genome, tmp_path):
    """The fake sees 4 bases, less than half the overlap: stitched must equal one pass over each contig."""
    result = scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)
    with Reference.open(genome) as reference:
        lengths = reference.lengths
        found = {
            name: read_bw(tmp_path / "out" / f"{name}.bw", lengths) for name in ("log_prob", "entropy", "constraint")
        }
        for contig, length in lengths.items():
            codes = reference.fetch(contig, 0, length)
            table = base_table(codes).astype(np.float64) if length > 2 else np.full((length, 4), np.nan)
            for place in range(length):
                told = [found[name][contig][place] for name in ("log_prob", "entropy", "constraint")]
                if codes[place] == 4 or length < 3:
                    assert np.isnan(told).all()
                    continue
                own, others = table[place, codes[place]], np.delete(table[place], codes[place])
                entropy = -sum(np.exp(x) * np.log2(np.exp(x)) for x in table[place])
                # Written as multiples of 2^-12.
                np.testing.assert_allclose(told, [own, entropy, np.mean(own - others)], atol=2e-4)
    assert result.facts["too_short"] == 1
    assert result.facts["n_read"] < result.facts["n_windows"]
    for told in result.facts["disagreement"].values():
        assert told["n_at_seams"] > 0 and told["max_at_seams"] < 1e-6 < told["max_over_overlaps"]
    assert json.loads((tmp_path / "out" / "scan.json").read_text()) == result.facts
    assert "neighbouring windows differ by" in result.in_words()[1]
    assert "1 contigs are shorter than a token" in result.in_words()[-1]
    assert not (tmp_path / "out.parts").exists()


def test_zoom_levels_are_means(genome, tmp_path):
    scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS, page=False)
    with pyBigWig.open(str(tmp_path / "out" / "entropy.bw")) as file:
        assert file.header()["nLevels"] >= 1
        values = np.array(file.values("chr2", 0, 320))
        np.testing.assert_allclose(file.stats("chr2", 0, 320, exact=True), values.mean(), rtol=1e-5)


def test_a_region_has_the_values_of_the_whole(genome, tmp_path):
    scan_tracks(FakePredictor(), genome, tmp_path / "whole", settings=SETTINGS, page=False)
    bed = tmp_path / "r.bed"
    bed.write_text("chr2\t95\t131\nchr2\t300\t350\nchr2\t120\t140\na:b|1\t0\t20\n")
    result = scan_tracks(FakePredictor(), genome, tmp_path / "part", settings=SETTINGS, regions=bed)
    with Reference.open(genome) as reference:
        whole, part = (read_bw(tmp_path / name / "entropy.bw", reference.lengths) for name in ("whole", "part"))
    for contig, places in {"chr2": [(95, 140), (300, 350)], "a:b|1": [(0, 20)], "chr10": []}.items():
        inside = np.zeros(len(whole[contig]), bool)
        for start, end in places:
            inside[start:end] = True
        np.testing.assert_array_equal(part[contig], np.where(inside, whole[contig], np.nan))
    assert result.facts["n_bases"] == 115
    only = scan_tracks(FakePredictor(), genome, tmp_path / "one", settings=SETTINGS, contigs=["chr10"], page=False)
    assert (only.facts["n_bases"], only.facts["n_windows"]) == (19, 1)


def test_bedgraph_says_the_same(genome, tmp_path):
    settings = replace(SETTINGS, file_format="bedgraph")
    scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings)
    scan_tracks(FakePredictor(), genome, tmp_path / "bw", settings=SETTINGS)
    with Reference.open(genome) as reference:
        wanted = read_bw(tmp_path / "bw" / "entropy.bw", reference.lengths)
    path = tmp_path / "out" / "entropy.bedgraph.gz"
    assert (tmp_path / "out" / "entropy.bedgraph.gz.tbi").is_file()
    with pysam.TabixFile(str(path)) as file:
        for contig, length in reference.lengths.items():
            values = np.full(length, np.nan)
            for row in file.fetch(contig) if contig in file.contigs else ():
                _, start, end, value = row.split("\t")
                assert np.isnan(values[int(start) : int(end)]).all()
                values[int(start) : int(end)] = float(value)
            np.testing.assert_allclose(values, wanted[contig], atol=1e-6)


@pytest.fixture
def with_head(monkeypatch):
    def use(head):
        monkeypatch.setattr(genome_scan.Head, "load", lambda *_: head)
        return TrackSettings(track="head", head="h", window_bp=40, overlap_bp=16, stretch_bp=100)

    return use


def test_bins_of_a_head(genome, tmp_path, with_head):
    settings = with_head(FakeHead("bins", ["A count", "C count"], 8))
    scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings)
    with Reference.open(genome) as reference:
        found = [read_bw(tmp_path / "out" / f"{n}_count.bw", reference.lengths) for n in "AC"]
        for contig in NAMES:
            codes = reference.fetch(contig, 0, reference.lengths[contig])
            for start in range(0, len(codes), 8):
                here = codes[start : start + 8]
                for number in (0, 1):
                    wanted = (here == number).sum() if (here < 4).any() else np.nan
                    np.testing.assert_array_equal(found[number][contig][start : start + 8], wanted)


def test_what_a_head_says_of_windows_is_drawn_around_their_middle(genome, tmp_path, with_head):
    settings = replace(with_head(FakeHead("regression", ["A", "C"])), overlap_bp=30)
    scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings)
    with Reference.open(genome) as reference:
        found = read_bw(tmp_path / "out" / "A.bw", reference.lengths)["chr2"]
        # The window at 100 to 140 speaks for the 10 bases in its middle.
        wanted = (reference.fetch("chr2", 100, 140) == 0).sum()
    np.testing.assert_array_equal(found[115:125], wanted)


def test_a_yes_or_no_head_has_a_track_of_either(genome, tmp_path, with_head):
    settings = with_head(FakeHead("binary", ["no", "yes"]))
    result = scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings, page=False)
    assert result.facts["files"] == {"no": "no.bw", "yes": "yes.bw"}
    assert result.facts["disagreement"]["yes"]["n_at_seams"] == 0


def test_calls_are_runs_of_a_class(genome, tmp_path, with_head):
    settings = with_head(FakeHead("bases", ["donor", "</script>,;=%", "exon"]))
    calls = CallSettings(threshold=0.4, min_bp=2, strand="-")
    result = scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings, calls=calls)
    require_gff3(tmp_path / "out" / "calls.gff3")
    with Reference.open(genome) as reference:
        values = {
            label: read_bw(tmp_path / "out" / result.facts["files"][file], reference.lengths)
            for label, file in (("donor", "donor"), ("</script>,;=%", "script"), ("exon", "exon"))
        }
    wanted = []
    for label, kind in (
        ("donor", "five_prime_cis_splice_site"),
        ("</script>,;=%", "sequence_feature"),
        ("exon", "exon"),
    ):
        for contig, track in values[label].items():
            start = None
            for place, value in enumerate([*track, np.nan]):
                if value >= 0.4 and start is None:
                    start = place
                elif not value >= 0.4 and start is not None:
                    if place - start >= 2:
                        wanted.append((contig, kind, start, place, "-", f"{track[start:place].mean():.4g}"))
                    start = None
    text = (tmp_path / "out" / "calls.gff3").read_text()
    scores = [line.split("\t")[5] for line in text.splitlines() if not line.startswith("#")]
    found = [
        (row.contig, row.kind, row.start, row.end, row.strand, score)
        for (_, row), score in zip(gff3_rows(tmp_path / "out" / "calls.gff3"), scores, strict=True)
    ]
    assert sorted(found) == sorted(wanted) and len(found) > 10
    assert result.facts["calls"]["n_of_class"]["donor"] == sum(1 for each in wanted if "splice" in each[1])
    assert "##sequence-region chr2 1 500" in text
    scripts = page_scripts(tmp_path / "out" / "igv.html")
    assert json.loads(scripts["config"])["tracks"][2]["name"] == "</script>,;=% (probability)"


def test_no_call_is_told_and_no_empty_file_is_written(genome, tmp_path, with_head):
    settings = with_head(FakeHead("bases", ["donor", "exon"]))
    result = scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings, calls=CallSettings(1.0))
    assert not (tmp_path / "out" / "calls.gff3").exists()
    assert "no base reaches the threshold" in result.in_words()[-1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"calls": CallSettings()}, "called from a head that classifies bases"),
        (
            {"contigs": ["chr3"]},
            "no contig 'chr3' in the genome; there are, for example, chr2, chr10, a:b|1 and 2 more",
        ),
        ({"settings": TrackSettings(window_bp=2)}, "--window-bp is 2: this model needs 3 bases"),
        ({"settings": TrackSettings(track="experts")}, "no expert layers"),
        ({"workers": 2, "settings": SETTINGS}, "was not loaded from a folder"),
    ],
)
def test_what_does_not_fit_is_refused(more, said, genome, tmp_path):
    with pytest.raises(ConfigError, match=said.replace("|", r"\|")):
        scan_tracks(FakePredictor(), genome, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_settings_that_contradict_each_other():
    for wrong, said in (
        ({"track": "probe"}, "--track is 'probe': use zero-shot, head, experts or embeddings"),
        ({"track": "head"}, "--track head and --head belong together"),
        ({"head": "x"}, "--track head and --head belong together"),
        ({"file_format": "wig"}, "use bigwig or bedgraph"),
        ({"bin_bp": 0}, "--bin-bp is 0: give 1 or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            TrackSettings(**wrong)
    with pytest.raises(ConfigError, match="the head has no class 'intron'; it has a, b"):
        CallSettings(labels=("intron",)).called(["a", "b"])
    for wrong, said in (
        ({"threshold": 0}, "--threshold"),
        ({"min_bp": 0}, "--min-bp"),
        ({"strand": "?"}, "--call-strand"),
    ):
        with pytest.raises(ConfigError, match=said):
            CallSettings(**wrong)
    with pytest.raises(ConfigError, match="CDS feature needs the phase"):
        CallSettings(types={"a": "CDS"})


def test_a_model_that_says_nan_stops_the_run(genome, tmp_path):
    with Reference.open(genome) as reference:
        pattern = tuple(reference.fetch("chr2", 210, 222).tolist())
    with pytest.raises(CheckpointError, match=r"not a finite number at base 211 of contig 'chr2': the weights"):
        scan_tracks(FakePredictor(pattern), genome, tmp_path / "out", settings=SETTINGS)
    assert not list(tmp_path.iterdir())


def test_nothing_to_read_is_no_success(genome, tmp_path):
    with pytest.raises(FastaError, match="no A, C, G or T to read"):
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS, contigs=["gap"])
    assert not list(tmp_path.iterdir())


def test_windows_that_disagree_are_not_published(genome, tmp_path):
    settings = replace(SETTINGS, overlap_bp=4)
    with pytest.raises(RunError, match=r"log_prob: neighbouring windows differ by .* raise --overlap-bp"):
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings, tolerance=1e-3)
    assert not (tmp_path / "out").exists()
    scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=settings, tolerance=1.0)


def test_other_things_are_not_overwritten(genome, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else than a scan"):
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)
    with pytest.raises(RunError, match="is a file, and a scan is a folder"):
        scan_tracks(FakePredictor(), genome, genome, settings=SETTINGS)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_stopped_scan_goes_on_and_writes_the_same_bytes(stop, genome, tmp_path, monkeypatch):
    scan_tracks(FakePredictor(), genome, tmp_path / "whole" / "out", settings=SETTINGS)
    real, calls = stretch_jobs.read_stretch, []

    def dying(*args):
        calls.append(args)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stretch_jobs, "read_stretch", dying)
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(genome_scan, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)
    with pytest.raises(RunError, match="holds an unfinished table of other inputs or settings"):
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=replace(SETTINGS, window_bp=50))
    counting = FakePredictor()
    scan_tracks(counting, genome, tmp_path / "out", settings=SETTINGS)
    assert counting.n_read == 0
    assert same_bytes(tmp_path / "whole" / "out", tmp_path / "out") >= 5


def same_bytes(one, other):
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    return len(names)


def test_a_damaged_stretch_is_named(genome, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(genome_scan, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)
    part = sorted((tmp_path / "out.parts").rglob("*.npz"))[0]
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(RunError, match=r"is damaged .*delete this file and run the same command again"):
        scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)
    part.unlink()
    scan_tracks(FakePredictor(), genome, tmp_path / "out", settings=SETTINGS)


def test_a_forecast_counts_the_windows_that_there_are(genome):
    told = forecast_scan(FakePredictor(), genome, settings=SETTINGS)
    with Reference.open(genome) as reference:
        assert told.n_bases == sum(reference.lengths.values())
        assert told.n_windows == sum(1 + max(0, -(-(n - 40) // 24)) for n in reference.lengths.values())
    assert told.hours > 0 and told.output_gb > 0
    assert forecast_scan(FakePredictor(), genome, settings=SETTINGS, contigs=["gap"]).seconds_per_window is None
