import pytest

from umbel.errors import ConfigError
from umbel.genome.interval import Interval


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("chr1:1-100", Interval("chr1", 0, 100)),
        ("chr1:1,000-2,000", Interval("chr1", 999, 2000)),
        ("NC_003070.9:1000001-3000000:5-5(-)", Interval("NC_003070.9:1000001-3000000", 4, 5, "-")),
    ],
)
def test_text_counts_from_one_and_memory_from_zero(text, interval):
    assert Interval.parse(text) == interval
    assert Interval.parse(str(interval)) == interval


@pytest.mark.parametrize("text", ["chr1", "chr1:5", "chr1:a-b", ":1-2", "chr1:1-2(*)", "chr1:-1-2", "chr 1:1-2"])
def test_other_text_is_refused(text):
    with pytest.raises(ConfigError, match="write it as contig:first-last"):
        Interval.parse(text)


@pytest.mark.parametrize("text", ["chr1:0-5", "chr1:6-5"])
def test_positions_that_bound_nothing_are_refused(text):
    with pytest.raises(ConfigError, match="positions count from 1"):
        Interval.parse(text)


def test_an_interval_holds_at_least_one_base():
    with pytest.raises(ValueError, match="do not bound at least one base"):
        Interval("chr1", 5, 5)
    with pytest.raises(ValueError, match="strand is"):
        Interval("chr1", 0, 5, ".")
    assert len(Interval("chr1", 0, 5)) == 5
