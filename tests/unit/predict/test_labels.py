"""Predictions of files: equal to the head's own, on both strands, in any format, and after a stop."""

import json

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from adapted import small_config

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import ConfigError, RunError
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import decode, revcomp
from umbel.model.hf import new_model
from umbel.model.tuned import save_tuned, with_head
from umbel.predict import labels
from umbel.predict.head import Head
from umbel.predict.labels import predict_file

TASKS = {
    "multiclass": {"kind": "multiclass", "names": ["x", "y,z", "w"]},
    "multilabel": {"kind": "multilabel", "names": ["a", "b"]},
    "regression": {"kind": "regression", "names": ["leaf", "root"]},
    "bases": {"kind": "bases", "names": ["out", "in"]},
}


@pytest.fixture
def genome(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "genome.fa"
    lines = [f">c{i}\n{decode(rng.integers(0, 4, n).astype(np.uint8))}\n" for i, n in enumerate((30, 90, 41))]
    path.write_text("".join(lines) + ">gap\nNNNNNN\n")
    return path


def head(tmp_path, kind, stranded=None):
    """A tuned model in the folders of a result, with weights that matter."""
    config = small_config(vocab_size=KmerTokens(1).size)
    model = with_head(new_model(config, 64, 0, describe(KmerTokens(1))), TASKS[kind])
    with torch.no_grad():
        for name, part in model.named_parameters():
            if not name.startswith("backbone"):
                part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(3)))
    out = tmp_path / f"tuned-{kind}"
    save_tuned(out / "runs" / "one" / "model", model, hf_tokenizer(KmerTokens(1), 64))
    told = {"best_run": "one"} | ({} if stranded is None else {"config": {"stranded": stranded}})
    (out / "finetune.json").write_text(json.dumps(told))
    return Head.load(out, "cpu")


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_rows_are_what_the_head_says(tmp_path, genome, kind):
    found = head(tmp_path, kind, stranded=False)
    result = predict_file(found, genome, tmp_path / "out.parquet")
    assert (result.rows, result.without_bases, result.beyond_window, result.strand) == (4, 1, 1, "both")
    rows = pq.read_table(result.path).to_pylist()
    names, prefix = TASKS[kind]["names"], "value" if kind == "regression" else "p"
    for row, record in zip(rows, read_fasta(genome), strict=True):
        assert (row["contig"], row["start"], row["end"]) == (record.name, 0, len(record.codes))
        said = [row[f"{prefix}_{name}"] for name in names]
        if record.name == "gap":
            assert said == [None] * len(names) and row.get("predicted") is None
            continue
        one, other = (found.outputs([codes])[0] for codes in (record.codes, revcomp(record.codes)))
        mean = (one + other) / 2
        expected = mean
        if kind == "multiclass":
            expected = np.exp(mean) / np.exp(mean).sum()
            assert row["predicted"] == names[int(mean.argmax())]
        if kind == "multilabel":
            expected = 1 / (1 + np.exp(-mean))
        np.testing.assert_allclose(said, expected, atol=1e-5)


def test_the_strand_is_that_of_the_scores_unless_another_is_named(tmp_path, genome):
    codes = [record.codes for record in read_fasta(genome)][:3]
    bed = tmp_path / "places.bed"
    bed.write_text("c1\t10\t50\tgene\t0\t-\n")
    found = head(tmp_path, "regression", stranded=True)
    assert found.strand == "forward"
    result = predict_file(found, bed, tmp_path / "out.tsv", fasta=genome)
    row = pyarrow.csv.read_csv(result.path, parse_options=pyarrow.csv.ParseOptions(delimiter="\t")).to_pylist()[0]
    assert (row["name"], row["start"], row["end"], row["strand"]) == ("gene", 10, 50, "-")
    own = found.outputs([revcomp(codes[1][10:50])])[0]
    np.testing.assert_allclose([row["value_leaf"], row["value_root"]], own, rtol=1e-4)
    alone = head(tmp_path, "multilabel")
    with pytest.raises(ConfigError, match="say --strand forward or both"):
        predict_file(alone, genome, tmp_path / "out.csv")
    assert predict_file(alone, genome, tmp_path / "out.csv", strand="revcomp").strand == "revcomp"


def test_a_stopped_call_goes_on_to_the_same_bytes(tmp_path, genome, monkeypatch):
    monkeypatch.setattr(labels, "ROWS_PER_PART", 1)
    found = head(tmp_path, "multiclass", stranded=True)
    predict_file(found, genome, tmp_path / "whole.csv")
    said, calls = found.probabilities, []

    def dies(codes, strand):
        calls.append(len(codes))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return said(codes, strand)

    with monkeypatch.context() as patch:
        patch.setattr(found, "probabilities", dies)
        with pytest.raises(KeyboardInterrupt):
            predict_file(found, genome, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert len(list((tmp_path / "out.csv.parts").glob("part-*"))) == 2
    with pytest.raises(RunError, match="unfinished"):
        predict_file(found, genome, tmp_path / "out.csv", strand="both")
    predict_file(found, genome, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "out.csv.parts").exists()


def test_refusals(tmp_path, genome):
    with pytest.raises(ConfigError, match=r"end it in .parquet, .csv or .tsv"):
        predict_file(head(tmp_path, "multiclass", stranded=True), genome, tmp_path / "out.xlsx")
    with pytest.raises(ConfigError, match="umbel scan --track head"):
        predict_file(head(tmp_path, "bases", stranded=True), genome, tmp_path / "out.csv")
