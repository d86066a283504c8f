import numpy as np
import pytest

from umbel.genome.neighbourhood import AROUND_BP, Neighbourhood
from umbel.genome.reference import Reference


def test_it_reads_what_the_genome_has(tmp_path):
    rng = np.random.default_rng(0)
    texts = {"a": "".join(rng.choice(list("ACGTN"), 9_000)), "b": "".join(rng.choice(list("ACGT"), 50))}
    (tmp_path / "g.fa").write_text("".join(f">{name}\n{text}\n" for name, text in texts.items()))
    with Reference.open(tmp_path / "g.fa") as genome:
        near = Neighbourhood(genome)
        for _ in range(500):
            contig = "ab"[int(rng.random() < 0.3)]
            start = int(rng.integers(0, len(texts[contig]) + 1))
            end = min(len(texts[contig]), start + int(rng.integers(0, 2 * AROUND_BP)))
            np.testing.assert_array_equal(near.fetch(contig, start, end), genome.fetch(contig, start, end))
        for place in (("a", 8_999, 9_001), ("a", -1, 5), ("b", 9, 5)):
            with pytest.raises(ValueError, match="not inside"):
                near.fetch(*place)
        with pytest.raises(KeyError, match="no contig 'c'"):
            near.fetch("c", 0, 1)
