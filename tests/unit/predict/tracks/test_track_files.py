import struct

import numpy as np
import pyBigWig
import pysam
import pytest

from umbel.errors import ConfigError, OutputError
from umbel.predict.tracks.bed import BedGraph, LabelBed, label_colours
from umbel.predict.tracks.bigwig import BigWig
from umbel.predict.tracks.calls import Caller, CallSettings
from umbel.predict.tracks.track import file_names

LENGTHS = {"chr10": 1_000, "a": 50, "chr2": 700, "long": 640_000_000}


def test_bigwig_reads_back_value_by_value(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=300).astype(np.float32)
    values[[0, 5, 6, 7, 100, 299]] = np.nan
    with BigWig(tmp_path / "t.bw", LENGTHS) as file:
        file.add("chr10", 40, 1, values, 340)
        file.add("chr10", 600, 7, values[1:5], 625)
        file.add("chr10", 700, 90, np.array([2.5], np.float32), 790)
        file.add("long", 639_999_000, 1, values, 639_999_300)
    with pyBigWig.open(str(tmp_path / "t.bw")) as file:
        assert file.chroms() == LENGTHS
        np.testing.assert_array_equal(np.array(file.values("chr10", 40, 340), np.float32), values)
        np.testing.assert_array_equal(np.array(file.values("long", 639_999_000, 639_999_300), np.float32), values)
        assert file.intervals("chr10", 600, 640) == tuple(
            (600 + 7 * i, min(607 + 7 * i, 625), float(values[1 + i])) for i in range(4)
        )
        assert file.intervals("chr10", 650, 1_000) == ((700, 790, 2.5),)
        assert file.intervals("a") is None and file.intervals("chr2") is None
        assert file.header()["nBasesCovered"] == 294 + 25 + 90 + 294


def test_the_index_of_bigwig_is_sorted_by_bytes(tmp_path):
    """The keys of the tree of names, as the file has them; readers may search it by halves."""
    with BigWig(tmp_path / "t.bw", LENGTHS) as file:
        file.add("a", 0, 1, np.ones(3, np.float32), 3)
    content = (tmp_path / "t.bw").read_bytes()
    (offset,) = struct.unpack_from("<Q", content, 8)
    _, _, key_bytes, _, n_items, _ = struct.unpack_from("<IIIIQQ", content, offset)
    keys = [content[offset + 36 + i * (key_bytes + 8) :][:key_bytes].rstrip(b"\0").decode() for i in range(n_items)]
    assert keys == ["a", "chr10", "chr2", "long"]


def test_bigwig_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ConfigError, match="contig 'c' has 4,294,967,296 bases, and bigWig has no place beyond"):
        BigWig(tmp_path / "t.bw", {"c": 2**32})
    with pytest.raises(OutputError, match="no value to write"), BigWig(tmp_path / "u.bw", LENGTHS) as file:
        file.add("a", 0, 1, np.full(3, np.nan, np.float32), 3)


def test_bedgraph_joins_equal_neighbours_and_is_indexed_by_csi_on_long_contigs(tmp_path):
    with BedGraph(tmp_path / "t.bedgraph.gz", LENGTHS) as file:
        file.add("chr10", 10, 5, np.array([1.0, 1.0, np.nan, 0.5, 0.25], np.float32), 33)
        file.add("long", 639_000_000, 1, np.array([7.0], np.float32), 639_000_001)
    assert file.index.name == "t.bedgraph.gz.csi" and file.index.is_file()
    with pysam.TabixFile(str(tmp_path / "t.bedgraph.gz"), index=str(file.index)) as found:
        assert list(found.fetch("chr10")) == ["chr10\t10\t20\t1", "chr10\t25\t30\t0.5", "chr10\t30\t33\t0.25"]
        assert list(found.fetch("long", 638_999_999, 640_000_000)) == ["long\t639000000\t639000001\t7"]
        assert list(found.fetch("long", 0, 638_000_000)) == []
    with BedGraph(tmp_path / "s.bedgraph.gz", {"a": 50}) as file:
        file.add("a", 0, 50, np.ones(1, np.float32), 50)
    assert file.index.name == "s.bedgraph.gz.tbi" and file.index.is_file()
    with pytest.raises(ConfigError, match="lines that begin with # are remarks in BED"):
        BedGraph(tmp_path / "x.gz", {"#1": 5})


def test_labels_are_merged_across_pieces(tmp_path):
    labels = np.repeat([0, 2, 255, 2, 1], [10, 20, 5, 5, 10]).astype(np.uint8)
    for cut in (1, 10, 12, 33, 49):
        with LabelBed(tmp_path / "d.bed.gz", LENGTHS, ["E0", "E1", "E2"]) as file:
            file.add("a", 0, labels[:cut])
            file.add("a", cut, labels[cut:])
            file.add("chr2", 50, labels[-2:])
            file.add("chr2", 60, labels[-2:])
        with pysam.TabixFile(str(tmp_path / "d.bed.gz"), index=str(file.index)) as found:
            rows = [row.split("\t") for row in found.fetch()]
        places = [(row[0], int(row[1]), int(row[2]), row[3]) for row in rows]
        assert places == [
            *(("a", 0, 10, "E0"), ("a", 10, 30, "E2"), ("a", 35, 40, "E2"), ("a", 40, 50, "E1")),
            *(("chr2", 50, 52, "E1"), ("chr2", 60, 62, "E1")),
        ]
        assert all(row[6:8] == row[1:3] and row[5] == "." for row in rows)
        assert rows[0][8] == ",".join(map(str, label_colours(3)[0]))
    with (
        pytest.raises(OutputError, match="no line to write"),
        LabelBed(tmp_path / "e.bed.gz", {"a": 5}, ["E0"]) as file,
    ):
        file.add("a", 0, np.full(5, 255, np.uint8))


def plain_calls(values, settings):
    """Runs at or above the threshold, merged over gaps that have values, then filtered by length."""
    runs = []
    for place, value in enumerate(values):
        if value >= settings.threshold:
            if (runs and runs[-1][1] == place) or (
                runs and place - runs[-1][1] <= settings.merge_gap_bp and np.isfinite(values[runs[-1][1] : place]).all()
            ):
                runs[-1][1] = place + 1
            else:
                runs.append([place, place + 1])
    return [(a, b, values[a:b].mean()) for a, b in runs if b - a >= settings.min_bp]


@pytest.mark.parametrize("settings", [CallSettings(), CallSettings(0.7, 2, 3), CallSettings(0.3, 4, 1)])
def test_calls_do_not_depend_on_pieces(settings):
    rng = np.random.default_rng(1)
    for trial in range(60):
        values = rng.random(rng.integers(1, 80)).astype(np.float32)
        values[rng.random(len(values)) < 0.05 * (trial % 3)] = np.nan
        caller, place = Caller(settings), 0
        while place < len(values):
            end = min(len(values), place + int(rng.integers(1, 30)))
            caller.add(100 + place, values[place:end])
            place = end
        found, wanted = caller.finish(), plain_calls(values.astype(np.float64), settings)
        assert [(a - 100, b - 100) for a, b, _ in found] == [(a, b) for a, b, _ in wanted]
        np.testing.assert_allclose([mean for *_, mean in found], [mean for *_, mean in wanted], atol=1e-6)


def test_a_place_that_was_not_read_ends_a_run():
    caller = Caller(CallSettings(merge_gap_bp=100))
    caller.add(0, np.ones(5, np.float32))
    caller.add(6, np.ones(5, np.float32))
    assert [(start, end) for start, end, _ in caller.finish()] == [(0, 5), (6, 11)]


def test_file_names_never_leave_the_folder():
    assert file_names(["..", "/etc/passwd", "A", "a", "ü"]) == ["track_0", "etc_passwd", "A", "a_2", "track_4"]
