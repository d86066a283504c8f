import errno
import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toys import enlarge, toy_stream_model

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import CheckpointError, ConfigError, FastaError, OutputError, RunError
from umbel.genome.fasta import read_fasta
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.model.streaming import streaming_cost
from umbel.predict.predictor import Predictor, load
from umbel.predict.scan import ScanSettings, stream_report
from umbel.predict.scan import embeddings as scan_module
from umbel.predict.scan.stream_report import MeasuredCost, StreamingReport
from umbel.progress import Reporter

CONFIG = replace(toy_stream_model(), vocab_size=92)


def save(folder, k=1, overlapping=False, **changes):
    """Save a model whose weights are large enough for every layer to matter."""
    tokens = KmerTokens(k, overlapping)
    model = enlarge(new_model(replace(CONFIG, **changes), 256, 3, describe(tokens)))
    save_checkpoint(folder, model, hf_tokenizer(tokens, 256))
    return folder


def write_fasta(path, sequences):
    path.write_text("".join(f">{name} and more\n{letters}\n" for name, letters in sequences.items()))
    return path


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    rng = np.random.default_rng(0)
    draw = lambda n: "".join(rng.choice(list("ACGTacgt"), n))  # noqa: E731
    sequences = {"one": draw(430) + "N" * 75 + draw(96), "tiny": draw(7), "gap": "N" * 45, "two": "NNR" + draw(201)}
    return write_fasta(tmp_path_factory.mktemp("fasta") / "in.fa", sequences)


def vectors(table):
    return np.array([row if row is not None else [np.nan] * 12 for row in table["embedding"].to_pylist()])


def rows(table):
    return list(zip(*(table[c].to_pylist() for c in ("contig", "start", "end", "n_bases")), strict=True))


def by_plain_loops(checkpoint, fasta, bin_bp):
    """Every bin's place, real bases and embedding from one pass over each contig."""
    predictor = Predictor.load(checkpoint, "cpu")
    places, embeddings = [], []
    for record in read_fasta(fasta):
        encoding = predictor.tokens.encode(record.codes)
        with torch.no_grad():
            hidden = predictor.backbone(torch.from_numpy(encoding.ids)[None]).hidden[0].numpy()
        for start in range(0, len(record.codes), bin_bp):
            end = min(start + bin_bp, len(record.codes))
            places.append((record.name, start, end, sum(1 for code in record.codes[start:end] if code < 4)))
            inside = []
            for token in range(1, len(encoding.ids) - 1):
                first, last = encoding.starts[token], encoding.ends[token]
                if start <= first < end and all(record.codes[base] < 4 for base in range(first, last)):
                    inside.append(hidden[token])
            embeddings.append(np.mean(inside, 0) if inside else np.full(12, np.nan))
    return places, np.array(embeddings)


@pytest.mark.parametrize(("k", "overlapping"), [(1, False), (3, False), (3, True)])
def test_bins_are_means_of_one_pass_at_any_chunk(k, overlapping, fasta, tmp_path):
    checkpoint = save(tmp_path / "model", k, overlapping, hyena_taps=3)
    places, wanted = by_plain_loops(checkpoint, fasta, 20)
    for chunk, overlap in ((5, -1), (7, 3), (64, 0), (10_000, -1)):
        out = tmp_path / f"{chunk}.parquet"
        settings = ScanSettings(chunk, overlap, bin_bp=20, check_tokens=50)
        result = load(checkpoint, "cpu").scan_embeddings(fasta, out, settings=settings)
        table = pq.read_table(out)
        assert rows(table) == places
        np.testing.assert_allclose(vectors(table), wanted, atol=1e-4 * np.nanmax(np.abs(wanted)))
        assert (result.rows, result.without_tokens) == (len(places), table["embedding"].null_count)
        assert result.streaming.cost.max_difference < 1e-4
        assert result.streaming.in_words().startswith("no attention, so streaming equals one pass: over 50 tokens")
    assert result.without_tokens == int(np.isnan(wanted[:, 0]).sum()) > 3


@pytest.mark.parametrize("bin_bp", [1, 2, 601, 5_000])
def test_bins_of_any_size(bin_bp, fasta, tmp_path):
    checkpoint = save(tmp_path / "model", 3)
    load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "o", settings=ScanSettings(50, bin_bp=bin_bp))
    places, wanted = by_plain_loops(checkpoint, fasta, bin_bp)
    table = pq.read_table(tmp_path / "o")
    assert rows(table) == places
    np.testing.assert_allclose(vectors(table), wanted, atol=1e-4 * np.nanmax(np.abs(wanted)))


def test_what_attention_costs_is_told(fasta, tmp_path):
    checkpoint = save(tmp_path / "model", 3, pattern="Hd Ae")
    settings = ScanSettings(chunk_tokens=40, overlap_tokens=10, check_tokens=150)
    result = load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "o.parquet", settings=settings)
    predictor = Predictor.load(checkpoint, "cpu")
    ids = predictor.tokens.encode(next(read_fasta(fasta)).codes).ids[:150]
    wanted = streaming_cost(predictor.backbone, torch.from_numpy(ids), chunk=40, overlap=10)
    cost = MeasuredCost("one", 0, 150, wanted.max_difference, wanted.mean_difference)
    assert result.streaming == StreamingReport(40, 10, True, cost)
    assert cost.max_difference > 1e-3
    facts = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[b"umbel"])
    assert facts["streaming"] == result.streaming.as_dict()
    assert (facts["strand"], facts["weights"]) == ("forward", predictor.weights_hash)
    assert facts["settings"] == {"chunk_tokens": 40, "overlap_tokens": 10, "bin_bp": 1000, "check_tokens": 150}


def test_the_stretch_compared_is_where_the_bases_are(tmp_path):
    checkpoint = save(tmp_path / "model", pattern="Hd Ae", max_tokens=60)
    fasta = write_fasta(tmp_path / "in.fa", {"gaps": "N" * 500 + "ACGT", "real": "NNNNN" + "ACGGT" * 30})
    settings = ScanSettings(chunk_tokens=20, overlap_tokens=5, check_tokens=1_000)
    cost = load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "o", settings=settings).streaming.cost
    assert (cost.contig, cost.start, cost.n_tokens) == ("real", 5, 60)
    only_gaps = write_fasta(tmp_path / "gaps.fa", {"gaps": "N" * 50})
    result = load(checkpoint, "cpu").scan_embeddings(only_gaps, tmp_path / "o", settings=settings)
    assert (result.rows, result.without_tokens, result.streaming.cost) == (1, 1, None)


def test_the_report_in_words():
    seen = MeasuredCost("chr1", 0, 4_096, 0.0412, 0.0081)
    assert StreamingReport(2_048, 1_024, True, seen).in_words() == (
        "attention saw 1,024 tokens on either side: against one pass over 4,096 tokens the hidden states differ by "
        "0.81 % on average, 4.1 % at most"
    )
    assert "what that costs was not measured" in StreamingReport(2_048, 1_024, True).in_words()
    assert "within sight of every window" in StreamingReport(4_096, 0, True, seen).in_words()
    assert "within sight of every window" in StreamingReport(2_048, 2_048, True, seen).in_words()
    assert "within sight of every window" not in StreamingReport(2_000, 2_048, True, seen).in_words()
    assert StreamingReport(9, 0, False).in_words() == "no attention, so streaming equals one pass (not measured)"


@pytest.mark.parametrize("pattern", ["Hd He", "Hd Ae"])
@pytest.mark.parametrize("windows", [1, 3])
def test_a_killed_scan_goes_on_and_gives_the_same_bytes(pattern, windows, fasta, tmp_path, monkeypatch):
    checkpoint = save(tmp_path / "model", 3, pattern=pattern, hyena_taps=3)
    monkeypatch.setattr(scan_module, "WINDOWS_PER_PART", windows)
    run = lambda out: load(checkpoint, "cpu").scan_embeddings(  # noqa: E731
        fasta, out, settings=ScanSettings(17, 9, bin_bp=30, check_tokens=90)
    )
    run(tmp_path / "whole.parquet")
    out, folder = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    real = scan_module.Bins.add
    left = 0

    def dying(self, *args):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(scan_module.Bins, "add", dying)
    stops = 0
    while stops < 100:
        left = 2 * windows - 1
        try:
            run(out)
        except KeyboardInterrupt:
            stops += 1
            assert not out.exists()
            with pytest.raises(RunError, match="holds an unfinished table of other inputs or settings"):
                load(checkpoint, "cpu").scan_embeddings(fasta, out)
        else:
            break
    assert 2 < stops < 100
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not folder.exists()


@pytest.mark.parametrize("which", ["write_part", "save", "_join"])
def test_a_stop_between_two_files_changes_nothing(which, fasta, tmp_path, monkeypatch):
    checkpoint = save(tmp_path / "model")
    monkeypatch.setattr(scan_module, "WINDOWS_PER_PART", 2)
    settings = ScanSettings(40, bin_bp=30)
    load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "whole", settings=settings)
    home = scan_module._State if which == "save" else scan_module
    real, calls = getattr(home, which), []

    def dying(*args):
        calls.append(args)
        if len(calls) == (1 if which == "_join" else 4):
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(home, which, dying)
        load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "out", settings=settings)
    load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "out", settings=settings)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_stopped_scan_does_not_measure_twice_and_names_a_damaged_state(fasta, tmp_path, monkeypatch):
    checkpoint = save(tmp_path / "model", pattern="Hd Ae")
    settings = ScanSettings(40, 8, bin_bp=30)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scan_module, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "out", settings=settings)
    monkeypatch.setattr(stream_report, "streaming_cost", None)
    state = tmp_path / "out.parts" / "state.pt"
    kept = state.read_bytes()
    assert len(kept) < 20_000
    state.write_bytes(kept[:100])
    with pytest.raises(RunError, match=r"state.pt is damaged .*: delete .*out.parts and begin again"):
        load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "out", settings=settings)
    state.write_bytes(kept)
    assert load(checkpoint, "cpu").scan_embeddings(fasta, tmp_path / "out", settings=settings).rows > 10


@pytest.mark.parametrize("check_tokens", [0, 100])
def test_hidden_states_that_are_not_finite_are_no_result(check_tokens, tmp_path):
    fasta = write_fasta(tmp_path / "in.fa", {"fine": "ACG" * 5, "bad": "ACG" * 20 + "T" + "ACG" * 20})
    checkpoint = save(tmp_path / "model")
    predictor = Predictor.load(checkpoint, "cpu")
    with torch.no_grad():
        predictor.backbone.embedding.weight[10] = torch.nan
    save_checkpoint(checkpoint, predictor._model, hf_tokenizer(predictor.tokens, 256))
    text = "in the 100 tokens from base 1" if check_tokens else "at base 61"
    with pytest.raises(CheckpointError, match=rf"model: hidden states are not finite {text} of contig 'bad'"):
        load(checkpoint, "cpu").scan_embeddings(
            fasta, tmp_path / "o", settings=ScanSettings(9, check_tokens=check_tokens)
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", "model"]


def test_what_cannot_be_scanned_is_refused_before_anything_is_written(fasta, toy_training, tmp_path):
    out = tmp_path / "o.parquet"
    with pytest.raises(ConfigError, match="Mamba layers, which also read against time: use windows"):
        load(toy_training, "cpu").scan_embeddings(fasta, out)
    with pytest.raises(ConfigError, match="look ahead"):
        load(save(tmp_path / "ahead", hyena_bidirectional=True), "cpu").scan_embeddings(fasta, out)
    with pytest.raises(ConfigError, match=r"a window of 40 tokens and 20 on either side has 80, and this model's"):
        narrow = save(tmp_path / "narrow", pattern="Ad", max_tokens=64)
        load(narrow, "cpu").scan_embeddings(fasta, out, settings=ScanSettings(40, 20))
    short = write_fasta(tmp_path / "short.fa", {"long": "ACGT", "short": "AC"})
    with pytest.raises(FastaError, match=r"short.fa, line 3: contig 'short' has 2 bases, and this model's tokens have"):
        load(save(tmp_path / "model", 3), "cpu").scan_embeddings(short, out)
    empty = tmp_path / "empty.fa"
    empty.write_text("")
    with pytest.raises(FastaError, match=r"empty.fa"):
        load(tmp_path / "model", "cpu").scan_embeddings(empty, out)
    for words in ({"chunk_tokens": 0}, {"overlap_tokens": -2}, {"bin_bp": 0}, {"check_tokens": -1}):
        option = next(iter(words)).replace("_", "-")
        with pytest.raises(ConfigError, match=f"--{option} is .*: give"):
            ScanSettings(**words)
    assert not list(tmp_path.glob("o.parquet*"))


def test_a_full_disk_leaves_the_old_table(fasta, tmp_path, monkeypatch):
    checkpoint, out = save(tmp_path / "model"), tmp_path / "out.parquet"
    out.write_bytes(b"old")

    def full(table, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputError, match="the disk is full"):
        load(checkpoint, "cpu").scan_embeddings(fasta, out)
    assert out.read_bytes() == b"old"


def test_progress_counts_bases(fasta, tmp_path, capsys):
    reporter = Reporter(stream=sys.stderr, every_s=0)
    load(save(tmp_path / "model"), "cpu").scan_embeddings(fasta, tmp_path / "o", reporter=reporter)
    assert "857/857 [" in capsys.readouterr().err
