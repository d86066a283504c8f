"""A contig longer than tbi reaches, in a file that takes no room on disk."""

import struct

import pysam
import pysam.bcftools
from variant_fakes import PlantedPredictor, random_letters, write_vcf

from umbel.predict.variants.scoring import score_variants
from umbel.predict.variants.settings import VariantSettings


def sparse_twobit(path, length, known):
    """A contig that is N up to its last bases ``known``, in a file that takes no room on disk."""
    code = {"T": 0, "C": 1, "A": 2, "G": 3}
    assert (length - len(known)) % 4 == 0 and len(known) % 4 == 0
    packed = bytes(
        code[a] << 6 | code[b] << 4 | code[c] << 2 | code[d] for a, b, c, d in zip(*[iter(known)] * 4, strict=True)
    )
    name = b"chr3B"
    head = struct.pack("<4I", 0x1A412743, 0, 1, 0) + bytes([len(name)]) + name
    head += struct.pack("<I", len(head) + 4)
    body = struct.pack("<7I", length, 1, 0, length - len(known), 0, 0, 0)[: 4 * 6]
    with path.open("wb") as file:
        file.write(head + body)
        file.seek((length - len(known)) // 4, 1)
        file.write(packed)


def test_a_contig_beyond_the_reach_of_tbi(tmp_path):
    length, known = 620_000_000, random_letters(4, 40_000)
    sparse_twobit(tmp_path / "long.2bit", length, known)
    first = length - len(known)
    at = [2_000, 2_040, 39_990]
    made = [f"chr3B {first + i + 1} . {known[i]} {known[i]}TTT,{'ACGT'.replace(known[i], '')[0]} . . ." for i in at]
    vcf = write_vcf(tmp_path, ["chr3B 500 . A C . . .", *made])
    settings = VariantSettings(window_bp=64, max_allele_bp=10, background=0)
    result = score_variants(PlantedPredictor(), vcf, tmp_path / "long.2bit", tmp_path / "out.vcf.gz", settings=settings)
    assert result.index == tmp_path / "out.vcf.gz.csi"
    assert (result.records, result.scored_records) == (4, 3)
    with pysam.TabixFile(str(result.path), index=str(result.index)) as file:
        found = list(file.fetch("chr3B", first + 2_030, first + 2_050))
        assert len(list(file.fetch("chr3B", 0, 1_000))) == 1
    assert len(found) == 1 and found[0].split("\t")[1] == str(first + 2_041)
    llr, pll = pysam.bcftools.query("-f", "%UMBEL_LLR %UMBEL_PLL\n", str(result.path)).splitlines()[1].split()
    assert llr.startswith(".,") and pll.endswith(",.") and len(llr) > 3 < len(pll)
    assert len(pysam.bcftools.view("-H", "-r", f"chr3B:{first}-{length}", str(result.path)).splitlines()) == 3
