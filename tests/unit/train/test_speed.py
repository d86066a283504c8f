import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toys import toy_packed_run, toy_run

from umbel.config import ModelConfig, RunConfig
from umbel.data.batches import TrainingBatches
from umbel.data.kmers import KmerTokens
from umbel.model.heads import label_losses
from umbel.model.hf import new_model
from umbel.train.speed import Seen, SpeedMeter, count_seen, matrix_rate, peak_memory_gb, process_bytes, step_flops

CPU = torch.device("cpu")
DENSE = ModelConfig(pattern="Ad", n_layers=3, d_model=16, n_heads=4, ffn_hidden=24, vocab_size=20)


def test_a_step_is_three_times_what_torch_counts_forward():
    """Attention and dense layers are all products, which torch counts: forward, and forward with backward."""
    batch, length = 2, 37
    model = new_model(DENSE, 64, 0).double()
    ids = torch.randint(7, 12, (batch, length))
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            model(input_ids=ids)
        with FlopCounterMode(display=False) as both:
            label_losses(model(input_ids=ids).logits, ids).sum().backward()
    found = step_flops(RunConfig("dense", model=DENSE), batch * length, length)
    assert found == 3 * forward.get_total_flops()
    # The dense MLP on a CPU in float64 is plain products, so its backward is counted as well.
    assert found == both.get_total_flops()


def test_attention_alone_grows_with_the_length():
    run = RunConfig("dense", model=DENSE)
    growth = step_flops(run, 1_000, 200) - step_flops(run, 1_000, 100)
    assert growth == 3 * 1_000 * 100 * 4 * DENSE.d_model * DENSE.n_layers


def test_tokens_of_packed_rows_are_counted_by_sequence(toy_corpus):
    run = toy_packed_run()
    batches = TrainingBatches(toy_corpus, run, KmerTokens(3)).micro_batches(0, 2)
    lengths = []
    for batch in batches:
        segments = batch.segment_ids if batch.segment_ids is not None else np.zeros_like(batch.input_ids)
        for row, mask in zip(segments, batch.attention_mask, strict=True):
            real = [s for s, m in zip(row.tolist(), mask.tolist(), strict=True) if m]
            lengths += [real.count(s) for s in set(real)]
    found = count_seen(batches)
    assert found.n_tokens == sum(lengths)
    assert found.mean_length == pytest.approx(sum(n * n for n in lengths) / sum(lengths))
    assert count_seen([]) == Seen(0, 0.0)


def test_mfu_by_hand_and_padding_is_not_in_it(toy_corpus):
    run = toy_run()
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 4)
    seen = count_seen(batches)
    assert seen.n_tokens == sum(int(batch.attention_mask.sum()) for batch in batches)
    told = SpeedMeter(run, n_processes=4, rate=5e8, device=CPU).step(0.25, 0.05, seen)
    assert told["tokens_per_s"] == seen.n_tokens / 0.25
    assert told["data_wait_frac"] == pytest.approx(0.2)
    assert told["mfu"] == pytest.approx(step_flops(run, seen.n_tokens, seen.mean_length) / (0.25 * 4 * 5e8))
    assert 0.01 < told["peak_memory_gb"] < 1_000


def test_memory_that_nobody_tells_is_left_out(monkeypatch):
    monkeypatch.setattr("umbel.train.speed.process_bytes", lambda field: None)
    assert peak_memory_gb(CPU) is None
    told = SpeedMeter(toy_run(), 1, 1e9, CPU).step(1.0, 0.0, Seen(10, 5.0))
    assert set(told) == {"tokens_per_s", "mfu", "data_wait_frac"}


def test_the_peak_of_the_process_is_at_least_what_it_has():
    peak, now = process_bytes("VmHWM"), process_bytes("VmRSS")
    if peak is None:
        pytest.skip("reads /proc")
    assert peak >= now * 0.99
    assert process_bytes("VmHWM") == pytest.approx(peak_memory_gb(CPU) * 1e9, rel=0.01)


def test_the_rate_is_operations_over_time(monkeypatch):
    """With a clock that says each product takes a millisecond, and one of them half of it."""
    ticks = iter([0.0, 1.0] + [x for took in (1e-3, 5e-4, 1e-3, 1e-3) for x in (2.0, 2.0 + took)])
    monkeypatch.setattr("umbel.train.speed.time.perf_counter", lambda: next(ticks))
    assert matrix_rate(CPU, seconds=3.2e-3) == pytest.approx(2 * 2_048 * 512 * 2_048 / 5e-4)
