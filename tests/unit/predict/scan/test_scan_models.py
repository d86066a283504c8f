"""Scans with a real network: experts, workers, a kill, and a contig longer than 512 Mb."""

import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyBigWig
import pysam
import pytest
from toys import enlarge, toy_stream_model

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.genome.reference import Reference
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.predict.gates import read_gates
from umbel.predict.predictor import load
from umbel.predict.scan.expert_tracks import ExpertTracks
from umbel.predict.scan.genome_scan import scan_tracks
from umbel.predict.scan.settings import TrackSettings

LONG_BP = 640_000_000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder, tokens = tmp_path_factory.mktemp("model"), KmerTokens(1)
    config = replace(toy_stream_model(), n_layers=2)
    save_checkpoint(folder, enlarge(new_model(config, 64, 3, describe(tokens))), hf_tokenizer(tokens, 64))
    return folder


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("genome") / "g.fa"
    contigs = {"one": "".join(rng.choice(list("ACGT"), 700)) + "N" * 103 + "ACGTTGCA" * 20, "two": "ACGGT" * 13}
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in contigs.items()))
    return path


@pytest.mark.parametrize("measure", ["weight", "tokens"])
def test_expert_tracks_are_means_of_bins_and_add_up(measure, checkpoint, genome, tmp_path):
    predictor = load(checkpoint, "cpu")
    # One window holds the contig, so that a plain loop over the contig says the same.
    settings = TrackSettings(track="experts", bin_bp=10, measure=measure, window_bp=5_000)
    result = scan_tracks(predictor, genome, tmp_path / "out", settings=settings)
    assert list(result.facts["files"]) == ["layer1_E0", "layer1_E1", "layer1_E2", "layer1_entropy", "dominant"]
    with Reference.open(genome) as reference:
        bed = pysam.TabixFile(str(tmp_path / "out" / "dominant.bed.gz"))
        tracks = [pyBigWig.open(str(tmp_path / "out" / f"layer1_{name}.bw")) for name in ("E0", "E1", "E2", "entropy")]
        for contig, length in reference.lengths.items():
            codes = reference.fetch(contig, 0, length)
            (gates,) = read_gates(predictor, [codes])
            values = np.array([track.values(contig, 0, length) for track in tracks])
            shares = gates.shares if measure == "weight" else gates.chosen
            for start in range(0, length, 10):
                real = [place for place in range(start, min(start + 10, length)) if codes[place] < 4]
                found = values[:, start]
                assert (values[:, start : start + 10] == found[:, None]).all() or np.isnan(found).all()
                if not real:
                    assert np.isnan(found).all()
                    continue
                wanted = [*np.mean([shares[place] for place in real], 0), np.mean([gates.entropy[p] for p in real])]
                np.testing.assert_allclose(found, wanted, atol=2e-4)
                assert found[:3].sum() == pytest.approx(1, abs=5e-4)
            dominant = np.full(length, 255)
            for row in bed.fetch(contig):
                _, start, end, name, *_ = row.split("\t")
                dominant[int(start) : int(end)] = int(name[1:])
            np.testing.assert_array_equal(dominant, np.where(codes < 4, gates.dominant, 255))
        for file in (*tracks, bed):
            file.close()


def test_windows_of_experts_are_stitched_at_bins(checkpoint, genome, tmp_path):
    predictor = load(checkpoint, "cpu")
    readout = ExpertTracks(predictor, bin_bp=7)
    settings = TrackSettings(track="experts", bin_bp=7, window_bp=100, overlap_bp=30, stretch_bp=150)
    scan_tracks(predictor, genome, tmp_path / "out", settings=settings, page=False)
    tiling = settings.resolved(readout, 64).tiling(readout)
    with Reference.open(genome) as reference, pyBigWig.open(str(tmp_path / "out" / "layer1_E1.bw")) as track:
        found = np.array(track.values("one", 0, reference.lengths["one"]))
        for window in tiling.windows(reference.lengths["one"]):
            codes = reference.fetch("one", window.start, window.end)
            if (codes < 4).any():
                wanted = np.repeat(readout.read([codes])[0].values[1], 7)[: len(codes)]
                here = slice(window.kept_start - window.start, window.kept_end - window.start)
                np.testing.assert_allclose(found[window.kept_start : window.kept_end], wanted[here], atol=2e-4)


@pytest.mark.slow
def test_kill_9_and_two_workers_change_nothing(checkpoint, genome, tmp_path):
    """Killed in a process of its own while stretches appear; what is left is read by two workers."""
    settings, out = TrackSettings(stretch_bp=100), tmp_path / "out"
    predictor = load(checkpoint, "cpu")
    scan_tracks(predictor, genome, tmp_path / "whole" / "out", settings=settings)
    words = [sys.executable, "-m", "umbel", "scan", checkpoint, genome, "-o", out, "-q", "--stretch-bp", 100]
    process = subprocess.Popen([*map(str, words), "--device", "cpu", "--workers", "1"])
    while process.poll() is None and len(list(tmp_path.glob("out.parts/*/*.npz"))) < 2:
        time.sleep(0.002)
    was_killed = process.poll() is None
    if was_killed:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert was_killed and not out.exists()
    scan_tracks(predictor, genome, out, settings=settings, workers=2, threads=1)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["constraint.bw", "entropy.bw", "igv.html", "log_prob.bw", "scan.json"]
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes(), name


def write_long_twobit(path):
    """A contig of 640 Mb, sparse on disk: N but for its last 3,000 bases, which repeat TCAG; and a short one."""
    last = LONG_BP - 3_000
    with path.open("wb") as handle:
        handle.write(struct.pack("<4I", 0x1A412743, 0, 2, 0))
        handle.write(
            b"\x04long" + struct.pack("<I", 16 + 9 + 10) + b"\x05short" + struct.pack("<I", 35 + 24 + LONG_BP // 4)
        )
        handle.write(struct.pack("<6I", LONG_BP, 1, 0, last, 0, 0))
        handle.seek(35 + 24 + last // 4)
        handle.write(bytes([0b00011011]) * (3_000 // 4))
        handle.write(struct.pack("<4I", 40, 0, 0, 0) + bytes(10))


def test_the_end_of_a_contig_beyond_512_mb(checkpoint, tmp_path):
    write_long_twobit(tmp_path / "long.2bit")
    assert (tmp_path / "long.2bit").stat().st_blocks * 512 < 1_000_000
    bed = tmp_path / "r.bed"
    first, last = LONG_BP - 3_100, LONG_BP - 2_500
    bed.write_text(f"long\t{first}\t{last}\n")
    predictor = load(checkpoint, "cpu")
    scan_tracks(predictor, tmp_path / "long.2bit", tmp_path / "bw", regions=bed, settings=TrackSettings(n_passes=4))
    with pyBigWig.open(str(tmp_path / "bw" / "entropy.bw")) as file:
        assert file.chroms("long") == LONG_BP
        values = np.array(file.values("long", first, last))
        assert np.isnan(values[:100]).all() and np.isfinite(values[100:]).all()
        assert file.intervals("long", 0, first) is None
        stats = file.stats("long", LONG_BP - 3_000, last, exact=True)[0]
        assert stats == pytest.approx(values[100:].mean(), abs=1e-4)
    settings = TrackSettings(track="experts", bin_bp=50, file_format="bedgraph")
    scan_tracks(predictor, tmp_path / "long.2bit", tmp_path / "bg", regions=bed, settings=settings)
    for name in ("dominant.bed.gz", "layer1_E0.bedgraph.gz"):
        assert (tmp_path / "bg" / f"{name}.csi").is_file()
        with pysam.TabixFile(str(tmp_path / "bg" / name), index=str(tmp_path / "bg" / f"{name}.csi")) as file:
            rows = [row.split("\t") for row in file.fetch("long", LONG_BP - 2_600, LONG_BP)]
            assert rows and int(rows[-1][2]) >= last and int(rows[0][2]) > LONG_BP - 2_600
