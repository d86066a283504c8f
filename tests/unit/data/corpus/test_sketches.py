"""Sketches of assemblies against sets made by plain Python."""

from dataclasses import replace

import numpy as np
import pytest
from packed import random_bases, write_packed

from umbel.data.corpus import sketches
from umbel.data.corpus.arrays import ArrayFile, writing_arrays
from umbel.data.corpus.sketches import (
    SketchFile,
    SketchJob,
    n_partitions_for,
    open_sketches,
    segment_starts,
    sketch_assembly,
)
from umbel.errors import CorpusError
from umbel.genome.sketch import sketch

K, SCALED, SEGMENT = 11, 4, 256


@pytest.fixture
def contigs():
    """Contigs of all sorts: odd, tiny, with N, with a repeat across a segment's end, ending just behind the grid."""
    lengths = [1001, 40, 5 * SEGMENT, 4 * SEGMENT + 100, 4 * SEGMENT + 128, 8, 2 * SEGMENT - 1]
    found = [random_bases(length, seed) for seed, length in enumerate(lengths)]
    found[0][300:330] = 4
    found[2][200:400] = np.tile(found[2][:20], 10)
    return found


@pytest.fixture
def job(contigs, tmp_path):
    assembly = write_packed(tmp_path / "a.nibbles", contigs)
    return SketchJob(assembly, tmp_path / "a.sketch", K, SCALED, SEGMENT, 3)


def plain_rows(contigs, hidden=None):
    """Set of (hash, segment) and number of segments, contig by contig, without pieces."""
    rows, first = set(), 0
    for number, codes in enumerate(contigs):
        codes = codes.copy()
        if hidden is not None:
            codes[hidden[number]] = 4
        starts = segment_starts(len(codes), SEGMENT)
        for hashed, position in zip(*sketch(codes, K, SCALED), strict=True):
            rows.add((int(hashed), first + int(np.searchsorted(starts, position, side="right")) - 1))
        first += len(starts)
    return rows, first


def rows_of(path):
    opened = SketchFile(path)
    rows = []
    for number in range(opened.settings["n_partitions"]):
        hashes, segments = opened.partition(number)
        rows += list(zip(hashes.tolist(), segments.tolist(), strict=True))
    return rows


@pytest.mark.parametrize("n_partitions", [1, 3, 40])
@pytest.mark.parametrize("piece_bp", [SEGMENT, 3 * SEGMENT, 1 << 21])
def test_rows_are_those_of_plain_sets_whatever_the_pieces_and_runs(job, contigs, n_partitions, piece_bp, monkeypatch):
    monkeypatch.setattr(sketches, "PIECE_BP", piece_bp)
    monkeypatch.setattr(sketches, "_FEWEST_ROWS", 50)
    told = sketch_assembly(replace(job, n_partitions=n_partitions, memory_bytes=1))
    wanted, n_segments = plain_rows(contigs)
    found = rows_of(job.out)
    assert len(found) == len(wanted) == told["n_rows"]
    assert set(found) == wanted
    assert told["n_segments"] == n_segments == SketchFile(job.out).n_segments
    counts = np.bincount([segment for _, segment in wanted], minlength=n_segments)
    assert SketchFile(job.out).n_hashes().tolist() == counts.tolist()


def test_partitions_are_ranges_of_hashes_and_segments_ascend_in_each(job):
    sketch_assembly(job)
    opened = SketchFile(job.out)
    ranges = [opened.partition(number) for number in range(3)]
    assert ranges[0][0].max() < ranges[1][0].min() < ranges[1][0].max() < ranges[2][0].min()
    for _, segments in ranges:
        assert (np.diff(segments.astype(int)) >= 0).all()


def test_contigs_have_their_segments(job):
    sketch_assembly(job)
    # 1001 = 3 x 256 + 233; 40 and 8 are one each; 100 are less than half of 256, 128 are not.
    assert SketchFile(job.out).first_segment_of_contig().tolist() == [0, 4, 5, 10, 14, 19, 20, 22]


def test_segments_cover_a_contig_in_pieces_of_half_to_one_and_a_half():
    for length in range(1, 3000, 7):
        starts = segment_starts(length, SEGMENT)
        sizes = np.diff(np.append(starts, length))
        assert starts[0] == 0 and (sizes < 1.5 * SEGMENT).all()
        assert len(starts) == 1 or (sizes >= SEGMENT / 2).all()


def test_more_bases_or_less_memory_make_more_partitions():
    assert n_partitions_for(10_000, 64, 10**9) == 1
    assert n_partitions_for(10**11, 64, 10**9) == 2 * n_partitions_for(10**11, 64, 2 * 10**9) - 1 == 125


def test_sketches_made_otherwise_are_refused(job, tmp_path):
    sketch_assembly(job)
    other = replace(job, k=13, out=tmp_path / "b.sketch")
    sketch_assembly(other)
    with pytest.raises(CorpusError, match=r"b\.sketch: sketched with .*'k': 13.*a\.sketch with .*'k': 11.*alike"):
        open_sketches((job.out, other.out))


def test_truncated_bases_and_files_are_refused_and_leave_nothing(job, tmp_path):
    job.assembly.path.write_bytes(job.assembly.path.read_bytes()[:-3])
    with pytest.raises(CorpusError, match=r"a\.nibbles: truncated\. Build the corpus again"):
        sketch_assembly(job)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nibbles"]
    job.assembly.path.unlink()
    with pytest.raises(CorpusError, match=r"a\.nibbles: cannot be read .*Build the corpus again"):
        sketch_assembly(job)


def test_a_file_of_arrays_that_is_cut_or_gone_is_refused(tmp_path):
    path = tmp_path / "x.arrays"
    with writing_arrays(path) as writer:
        writer.add("a", np.arange(1000))
    assert "a" in ArrayFile(path) and "b" not in ArrayFile(path)
    whole = path.read_bytes()
    for part in (whole[:-1], whole[:100], b"", whole[1:] + b"x"):
        path.write_bytes(part)
        with pytest.raises(CorpusError, match=r"x\.arrays: damaged or cut short"):
            ArrayFile(path)
    path.unlink()
    with pytest.raises(CorpusError, match=r"x\.arrays: cannot be read"):
        ArrayFile(path)


def test_arrays_come_back_in_slices_and_names_are_used_once(tmp_path):
    path = tmp_path / "x.arrays"
    with writing_arrays(path) as writer:
        writer.add("a", np.arange(10, dtype=np.uint32))
        writer.add("none", np.empty(0))
        with pytest.raises(ValueError, match="'a' is already there"):
            writer.add("a", np.arange(3))
    arrays = ArrayFile(path)
    assert arrays.read("a", 3, 5).tolist() == [3, 4]
    assert arrays.map("a")[8:].tolist() == [8, 9]
    assert len(arrays.map("none")) == len(arrays.read("none")) == 0
    with pytest.raises(ValueError, match="values 5 to 11 are not inside 0 to 10"):
        arrays.read("a", 5, 11)
