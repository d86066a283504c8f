"""``umbel variants`` as a user calls it, on a real accession's SNPs."""

import json
from pathlib import Path

import pysam
import pytest
import torch
from calling import umbel
from toys import toy_run

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model

DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model"
    save_checkpoint(path, new_model(toy_run().model, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    return path


def test_a_real_accession(model, tmp_path, monkeypatch, capsys):
    inputs = [model, DATA / "accession.vcf", DATA / "thaliana.fa.gz"]
    settings = ["--window-bp", 40, "--max-allele-bp", 5, "--background", 12, "-q"]
    code, out, err = umbel(monkeypatch, capsys, "variants", *inputs, "-o", tmp_path / "a.vcf.gz", *settings)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path / 'a.vcf.gz'}: 118 records, 118 of them with a score"
    assert lines[1:] == [
        "  alleles: 118 scored",
        "  compared with random variants: 12 substitution of 1 base",
        f"  index: {tmp_path / 'a.vcf.gz.tbi'}",
    ]
    with pysam.VariantFile(str(tmp_path / "a.vcf.gz")) as file, pysam.VariantFile(str(inputs[1])) as source:
        for new, old in zip(file, source, strict=True):
            assert (new.contig, new.pos, new.alleles) == (old.contig, old.pos, old.alleles)
            assert len(new.info["UMBEL_LLR"]) == 1 and 0 <= new.info["UMBEL_LLR_PCT"][0] <= 100


def test_json_and_errors(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "g.fa").write_text(">c\n" + "ACGTTGCA" * 30 + "\n")
    (tmp_path / "v.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nother\t5\t.\tA\tC\t.\t.\t.\n"
    )
    words = ["variants", model, tmp_path / "v.vcf", tmp_path / "g.fa", "-q", "--json", "-o"]
    code, out, _ = umbel(monkeypatch, capsys, *words, tmp_path / "t.parquet")
    told = json.loads(out)
    assert code == 0 and told["records"] == 1 and told["filters"]["UMBEL_NO_CONTIG"] == 1
    assert told["index"] is None and "--contig-map" in told["warnings"][0]
    code, _, err = umbel(monkeypatch, capsys, *words, tmp_path / "t.txt")
    assert code == 1 and "end its name in .vcf.gz" in err
    code, _, err = umbel(monkeypatch, capsys, *words, tmp_path / "t.parquet", "--score", "llr,best")
    assert code == 1 and "--score best: there are llr, pll, embedding, head" in err
