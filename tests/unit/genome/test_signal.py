"""bedGraph against loops, bigWig against the library itself, and what is refused."""

import numpy as np
import pytest

from umbel.errors import AnnotationError
from umbel.genome.signal import open_signal

bigwig = pytest.importorskip("pyBigWig")


def write(tmp_path, text):
    path = tmp_path / "a.bedgraph"
    path.write_text(text)
    return path


def test_bedgraph_gives_the_value_of_every_base(tmp_path):
    rows = [("c", 40, 45, -2.0), ("c", 0, 10, 0.5), ("c", 10, 12, 3.25), ("d", 1, 2, 9.0)]
    path = write(tmp_path, "track type=bedGraph\n# a\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    signal = open_signal(path, {"c": 50, "d": 2, "e": 7})
    for contig, length in {"c": 50, "d": 2, "e": 7}.items():
        expected = np.full(length, np.nan)
        for name, start, end, value in rows:
            if name == contig:
                expected[start:end] = value
        for start, end in ((0, length), (1, length), (length // 2, length // 2)):
            np.testing.assert_array_equal(signal.values(contig, start, end), expected[start:end])


def test_bigwig_gives_what_the_library_gives(tmp_path):
    path = tmp_path / "a.bw"
    with bigwig.open(str(path), "w") as file:
        file.addHeader([("c", 5000), ("d", 100)])
        starts = np.arange(0, 4000, 7)
        values = np.random.default_rng(0).normal(size=len(starts))
        file.addEntries(["c"] * len(starts), starts.tolist(), ends=(starts + 5).tolist(), values=values.tolist())
    signal = open_signal(path, {"c": 5000, "d": 100, "other": 9})
    with bigwig.open(str(path)) as file:
        for start, end in ((0, 5000), (13, 14), (3990, 4010)):
            np.testing.assert_array_equal(signal.values("c", start, end), file.values("c", start, end))
    assert np.isnan(signal.values("d", 0, 100)).all()
    assert np.isnan(signal.values("other", 0, 9)).all()
    assert signal.values("c", 5, 5).shape == (0,)
    with pytest.raises(
        AnnotationError, match=r"contig 'c' has 5,000 bases here and 4,999 in the FASTA: .* another assembly"
    ):
        open_signal(path, {"c": 4999})
    with pytest.raises(AnnotationError, match=r"none of its contigs \(c, d\) is in the FASTA \(1, 2, 3 and 1 more\)"):
        open_signal(path, dict.fromkeys("1234", 9))


def test_what_is_no_track_is_refused_with_its_line(tmp_path):
    lengths = {"c": 50}
    for text, message in {
        "c\t0\t5\t1\nc\t4\t9\t2\n": "line 2: its bases have a value in line 1 already",
        "c\t0\t5\n": "line 1: bedGraph has four columns",
        "fixedStep chrom=c start=1 step=1\n": "line 1: bedGraph has four columns",
        "c\t0\t5\tx\n": "line 1: start '0', end '5' and value 'x' must be numbers",
        "c\t0\t51\t1\n": "line 1: start 0 and end 51 do not lie inside contig 'c' of 50 bases",
        "d\t5\t5\t1\n": "line 1: start 5 and end 5 do not bound at least one base",
        "": "the file holds no value",
    }.items():
        with pytest.raises(AnnotationError, match=message):
            open_signal(write(tmp_path, text), lengths)
    with pytest.raises(AnnotationError, match=r"cannot be read: No such file or directory. Check the path"):
        open_signal(tmp_path / "none", lengths)
    damaged = tmp_path / "b.bw"
    damaged.write_bytes(b"\x26\xfc\x8f\x88" + bytes(200))
    with pytest.raises(AnnotationError, match="the bigWig file is damaged"):
        open_signal(damaged, lengths)
