import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from toys import fasta_text, toy_gff3, toy_sequences

from umbel.errors import AnnotationError
from umbel.genome.reference import Reference
from umbel.genome.runs import as_runs
from umbel.genome.twobit_writing import write_twobit
from umbel.predict.tracks import igv_page
from umbel.predict.tracks.annotation_rows import annotation_lines
from umbel.predict.tracks.bed import LabelBed
from umbel.predict.tracks.bigwig import BigWig
from umbel.predict.tracks.igv_page import Page, write_page
from umbel.predict.tracks.track import Track

PLACES = {"chr1|toy": as_runs([(0, 2_000), (3_000, 4_001)]), "scaffold:7_A": as_runs([(5, 6_000)])}
EVIL = '</script><img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.fa").write_text(fasta_text(toy_sequences()))
    (folder / "toy.gff3").write_text(toy_gff3())
    with Reference.open(folder / "toy.fa") as reference:
        yield reference


def make_page(folder, genome):
    folder.mkdir()
    with BigWig(folder / "t.bw", genome.lengths) as file:
        file.add("chr1|toy", 0, 1, np.arange(2_000, dtype=np.float32), 2_000)
    with LabelBed(folder / "dominant.bed.gz", genome.lengths, [EVIL]) as file:
        file.add("chr1|toy", 0, np.zeros(9, np.uint8))
    files = {"t": "t.bw", "dominant": "dominant.bed.gz"}
    return Page(EVIL, [Track("t", EVIL, "nat", 0.0, 1.0)], files, PLACES, "out")


def scripts_of(path):
    return re.findall(r"<script[^>]*>(.*?)</script>", path.read_text(encoding="utf-8"), re.S)


def test_all_data_are_in_a_small_page_and_no_name_becomes_markup(genome, tmp_path):
    page = make_page(tmp_path / "out", genome)
    assert write_page(tmp_path / "out" / "igv.html", page, genome, genome.path.with_suffix(".gff3"))
    text = (tmp_path / "out" / "igv.html").read_text(encoding="utf-8")
    assert "<img" not in text.replace(igv_page.IGV.read_text(encoding="utf-8"), "")
    config, *rest = scripts_of(tmp_path / "out" / "igv.html")
    config = json.loads(config)
    data = dict(zip(config["embedded"], rest[:-2], strict=True))
    stored = {name: gzip.decompress(base64.b64decode(content)) for name, content in data.items()}
    assert stored["t.bw"] == (tmp_path / "out" / "t.bw").read_bytes()
    assert stored["contigs.sizes"] == b"chr1|toy\t6000\nscaffold:7_A\t6037\n"
    assert {"dominant.bed.gz", "dominant.bed.gz.tbi", "annotation.gff3", "reference.2bit"} <= set(stored)
    assert config["tracks"][-1]["name"] == f"{EVIL} (nat)" and config["tracks"][-1]["max"] == 1.0
    assert [track["url"] for track in config["tracks"]] == ["annotation.gff3", "dominant.bed.gz", "t.bw"]
    assert config["beside"] == [] and config["reference"] == "reference.2bit"
    assert config["locus"] == "chr1|toy:1-2000"
    (tmp_path / "back.2bit").write_bytes(stored["reference.2bit"])
    with Reference.open(tmp_path / "back.2bit") as back:
        for contig, runs in PLACES.items():
            inside = np.zeros(genome.lengths[contig], bool)
            for start, end in runs.tolist():
                inside[start:end] = True
            codes, mask = genome.fetch_masked(contig, 0, len(inside))
            found, found_mask = back.fetch_masked(contig, 0, len(inside))
            np.testing.assert_array_equal(found, np.where(inside, codes, 4))
            np.testing.assert_array_equal(found_mask, mask & inside)


def test_a_large_page_asks_for_its_folder(genome, tmp_path):
    page = make_page(tmp_path / "out", genome)
    assert not write_page(tmp_path / "out" / "igv.html", page, genome, genome.path.with_suffix(".gff3"), 1_000)
    config, sizes, *_ = scripts_of(tmp_path / "out" / "igv.html")
    told = json.loads(config)
    assert told["embedded"] == ["contigs.sizes"]
    assert gzip.decompress(base64.b64decode(sizes)).startswith(b"chr1|toy")
    beside = {path.name for path in (tmp_path / "out").iterdir()} - {"igv.html"}
    assert (
        set(told["beside"])
        == beside
        == {
            *("t.bw", "dominant.bed.gz", "dominant.bed.gz.tbi", "reference.2bit"),
            *("annotation.gff3.gz", "annotation.gff3.gz.tbi"),
        }
    )
    assert told["tracks"][0]["indexURL"] == "annotation.gff3.gz.tbi"


def test_the_same_page_has_the_same_bytes(genome, tmp_path):
    for name in ("one", "two"):
        page = make_page(tmp_path / name, genome)
        write_page(tmp_path / name / "igv.html", page, genome, genome.path.with_suffix(".gff3"))
    assert (tmp_path / "one" / "igv.html").read_bytes() == (tmp_path / "two" / "igv.html").read_bytes()


def test_a_contig_too_long_for_a_browser_has_no_sequence(genome, tmp_path, monkeypatch):
    monkeypatch.setattr(igv_page, "_MOST_SEQUENCE", 100)
    page = make_page(tmp_path / "out", genome)
    assert write_page(tmp_path / "out" / "igv.html", page, genome)
    assert json.loads(scripts_of(tmp_path / "out" / "igv.html")[0])["reference"] is None


def test_igv_is_the_version_that_is_told():
    told = (Path(igv_page.__file__).parent / "vendor" / "README.md").read_text()
    digest = hashlib.sha256(igv_page.IGV.read_bytes()).hexdigest()
    assert f"`{digest}`" in told and "version 3.8.10" in told
    assert "MIT License" in (igv_page.IGV.parent / "igv-LICENSE.txt").read_text()


def test_genes_come_whole_and_sorted(genome):
    gff3, lengths = genome.path.with_suffix(".gff3"), genome.lengths
    # The first base of a gene that spans 900.
    lines = annotation_lines(gff3, {"chr1|toy": as_runs([(100, 121)])}, lengths)
    assert [line.split("\t")[2] for line in lines] == ["gene", "mRNA", "exon", "CDS", "exon", "CDS"]
    assert [line.split("\t")[3] for line in lines] == ["121", "121", "121", "221", "721", "721"]
    assert annotation_lines(gff3, {"chr1|toy": as_runs([(2_000, 2_100)])}, lengths) == []
    with pytest.raises(AnnotationError, match=r"no feature lies on the contigs that were scanned \(chloroplast\)"):
        annotation_lines(gff3, {"chloroplast": as_runs([(0, 10)])}, lengths)


def test_twobit_has_an_end(tmp_path, genome):
    from umbel.errors import ConfigError

    class Long:
        lengths = {"c": 2**34}  # noqa: RUF012

    with pytest.raises(ConfigError, match="addresses 4 GiB"):
        write_twobit(tmp_path / "x.2bit", Long(), {"c": as_runs([(0, 9)])})
