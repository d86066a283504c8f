"""Sequence-length warm-up shows the same windows and bases, in shorter rows, and can be interrupted."""

from dataclasses import replace

import numpy as np
import pytest
from toys import toy_packed_run, toy_placement_run, toy_run

from umbel.config import BalanceConfig, LengthStage, MaskingConfig, TokensConfig
from umbel.data.batches import TrainingBatches
from umbel.data.kmers import KmerTokens
from umbel.data.masking import corrupt, is_reversed
from umbel.data.objectives import make_example
from umbel.data.tokenizers import make_tokens
from umbel.errors import ConfigError
from umbel.genome.sequence import revcomp
from umbel.train import loop
from umbel.train.pretrain import pretrain
from umbel.train.state import read_metrics

STAGES = (LengthStage(50, 2), LengthStage(120, 3))
SEEN = MaskingConfig(mask_frac=0.0, revcomp_frac=0.5)
ONE = KmerTokens(1)


def batches_of(corpus, stages=STAGES, masking=SEEN, tokens=ONE, **train):
    run = toy_run(**{"batch_windows": 8, "micro_batch_windows": 2, "length_stages": stages, **train})
    config = TokensConfig(k=tokens.k, overlapping=tokens.overlapping)
    even = BalanceConfig(alpha=0, beta=0)
    return TrainingBatches(corpus, replace(run, masking=masking, balance=even, tokens=config), tokens)


def bits(example):
    parts = example.input_ids, example.labels, example.weights, example.placement
    return tuple(b"" if part is None else part.tobytes() for part in parts)


def bits_of(rows):
    return [tuple(map(bits, row)) for row in rows]


def bases(rows):
    """The bases of each row, which is one sequence in its frame."""
    return [(row[0].input_ids[1:-1] - 7).tolist() for row in rows]


def flat(lists):
    return [one for many in lists for one in many]


@pytest.mark.parametrize("world_size", [1, 2])
def test_windows_and_strands_of_a_step_are_those_without_stages_base_by_base(world_size, species_corpus):
    staged, plain = batches_of(species_corpus), batches_of(species_corpus, ())
    n_rows = []
    for step in range(7):
        for rank in range(world_size):
            cut, whole = (bases(b.rows(step, rank, world_size)) for b in (staged, plain))
            assert flat(cut) == flat(whole)
            assert max(map(len, cut)) <= (50 if step < 2 else 120 if step < 5 else 256)
            n_rows.append(len(cut) * world_size)
            assert staged.shown(step, rank, world_size) == plain.shown(step, rank, world_size)
    assert min(n_rows[: 2 * world_size]) > max(n_rows[2 * world_size : 5 * world_size]) > n_rows[-1] == 8


def test_micro_batches_have_the_bases_of_their_windows_in_every_stage(species_corpus):
    staged, plain = batches_of(species_corpus), batches_of(species_corpus, ())
    for step in (0, 3, 6):
        cut, whole = (
            [int((m.input_ids[m.attention_mask == 1] >= 7).sum()) for m in b.micro_batches(step, 2)]
            for b in (staged, plain)
        )
        assert cut == whole and len(cut) == 4
    assert staged.micro_batches(0, 2)[0].input_ids.shape[1] <= 52


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_together_make_the_step_in_as_many_micro_batches_each(world_size, species_corpus):
    masking = MaskingConfig()
    for step in (1, 4, 5):
        samples = batches_of(species_corpus, masking=masking)._samples(step, 0, 1)
        counts = set()
        for rank in range(world_size):
            each = batches_of(species_corpus, masking=masking)
            rows = each.rows(step, rank, world_size)
            assert bits_of(rows) == bits_of(flat(samples[rank::world_size]))
            made = each.micro_batches(step, 2, rank, world_size)
            counts.add(len(made))
            lengths = [int(n) for m in made for n in m.attention_mask.sum(1)]
            assert lengths == [len(row[0].input_ids) for row in rows]
        assert counts == {8 // world_size // 2}
    # Windows differ in length, so that cutting by rows would not have done.
    by_rank = {len(batches_of(species_corpus).rows(step, rank, 4)) for rank in range(4) for step in range(2)}
    assert len(by_rank) > 1


@pytest.mark.parametrize("kind", ["plain", "packed", "placement"])
def test_without_stages_every_byte_is_what_it_was(kind, toy_corpus):
    run = {"plain": toy_run, "packed": toy_packed_run, "placement": toy_placement_run}[kind]()
    batches = TrainingBatches(toy_corpus, run, make_tokens(run.tokens))
    for step in range(3):
        rows = batches.rows(step)
        assert len(rows) == 4
        if kind == "packed":
            assert all(sum(len(part.input_ids) for part in row) == 100 for row in rows)
            continue
        draws = batches.draws.samples(step)
        for row, sample, species, number in zip(rows, draws.sample, draws.species, draws.number, strict=True):
            codes, soft = toy_corpus.read_window(batches.windows.drawn(int(species), int(number)))
            if is_reversed(run.masking, 0, step, int(sample)):
                codes, soft = revcomp(codes), soft[::-1]
            (example,) = row
            assert bits(example) == bits(make_example(codes, soft, run.masking, 0, step, int(sample), ONE))


def test_a_stage_of_whole_windows_is_no_stage(toy_corpus):
    masking = MaskingConfig()
    plain, staged = (batches_of(toy_corpus, stages, masking) for stages in ((), (LengthStage(256, 2),)))
    for step in range(3):
        assert bits_of(plain.rows(step)) == bits_of(staged.rows(step))


def by_hand(batches, step, most_bp):
    """The pieces of the windows that a step shows, as base codes, cut with numpy."""
    found = []
    for window, is_turned in batches.shown(step):
        codes, _ = batches._corpus.read(window.assembly, window.contig, window.start, window.end)
        codes = revcomp(codes) if is_turned else codes
        n = -(-len(codes) // most_bp)
        found += [codes[i * len(codes) // n : (i + 1) * len(codes) // n] for i in range(n)]
    return found


def test_each_piece_is_corrupted_by_a_draw_of_its_own(toy_corpus):
    stages, masking = (LengthStage(64, 1),), MaskingConfig(revcomp_frac=0.0, mask_frac=0.5)
    batches = batches_of(toy_corpus, stages, masking)
    rows, cut = batches.rows(0), by_hand(batches, 0, 64)
    assert len({(row[0].labels[1:40] >= 0).tobytes() for row in rows}) == len(rows) == len(cut) > 20
    # The first piece of a sample is corrupted as a window of those bases would be.
    first = corrupt(cut[0], np.zeros(len(cut[0]), bool), masking, 0, 0, 0, ONE)
    assert np.array_equal(rows[0][0].labels, first.labels) and np.array_equal(rows[0][0].input_ids, first.input_ids)
    assert bits_of(rows) == bits_of(batches_of(toy_corpus, stages, masking).rows(0))


K_MERS = [KmerTokens(6), KmerTokens(5, overlapping=True)]


@pytest.mark.parametrize("tokens", K_MERS, ids=["side by side", "overlapping"])
def test_k_mers_are_counted_anew_in_every_piece(tokens, species_corpus):
    batches = batches_of(species_corpus, (LengthStage(11, 1),), tokens=tokens)
    wanted = [tokens.encode(piece).ids.tolist() for piece in by_hand(batches, 0, 11)]
    assert [row[0].input_ids.tolist() for row in batches.rows(0)] == wanted


def test_stages_too_short_for_a_token_are_refused(toy_corpus):
    wanted = r"pieces of 10 bp, which may leave 5, and a token has 6 bases: make the stage at least 11 bp"
    with pytest.raises(ConfigError, match=wanted):
        batches_of(toy_corpus, (LengthStage(64, 1), LengthStage(10, 1)), tokens=KmerTokens(6))
    batches_of(toy_corpus, (LengthStage(11, 1),), tokens=KmerTokens(6)).rows(0)


def test_processes_that_cannot_share_a_step_evenly_are_refused(toy_corpus):
    with pytest.raises(ConfigError, match=r"batch_windows is 8, and 3 processes cannot .* make it a multiple of 3"):
        batches_of(toy_corpus).micro_batches(0, 2, 0, 3)


def test_cut_spans_find_room_in_pieces_or_say_so(toy_corpus):
    masking = replace(toy_placement_run().masking, uniform_weight=0.0, span_weight=0.0)
    batches = batches_of(toy_corpus, (LengthStage(128, 1), LengthStage(40, 1)), masking)
    roomy, cramped = (batches.micro_batches(step, 8)[0] for step in (0, 1))
    # Three spans of 12 bases need 38.
    assert roomy.n_unplaced == 0 and (roomy.placement.min(1) == -3).all()
    assert cramped.n_unplaced > 0 and len(cramped.input_ids) > len(roomy.input_ids)


def test_lengths_are_told(toy_corpus):
    told = batches_of(toy_corpus, (LengthStage(50, 5), LengthStage(1_00, 3)), steps=12).told()[-1]
    assert told == "lengths: pieces of 50 bp for 5 steps, then pieces of 100 bp for 3 steps, then whole windows for 4"
    told = batches_of(toy_corpus, (LengthStage(50, 5), LengthStage(100, 30)), steps=12).told()[-1]
    assert told == "lengths: pieces of 50 bp for 5 steps, then pieces of 100 bp for 7 steps, then whole windows for 0"


def test_a_stream_asked_for_from_the_middle_of_a_stage_gives_the_same_batches(species_corpus):
    whole = list(batches_of(species_corpus, masking=MaskingConfig()).stream(0, 7, 2, 1, 2))
    for first in (1, 3, 5):
        rest = list(batches_of(species_corpus, masking=MaskingConfig()).stream(first, 7, 2, 1, 2))
        for batches, again in zip(whole[first:], rest, strict=True):
            for a, b in zip(batches, again, strict=True):
                assert np.array_equal(a.input_ids, b.input_ids) and np.array_equal(a.labels, b.labels)


@pytest.mark.parametrize("stop_after", [1, 6])
def test_a_run_stopped_inside_a_stage_continues_to_the_same_bits(stop_after, toy_corpus, tmp_path, monkeypatch):
    run, whole = toy_run(length_stages=STAGES, steps=7, save_every_steps=1), loop.train_step
    pretrain(run, toy_corpus.path, tmp_path / "whole")

    def failing(learner, batches, **more):
        if learner.step == stop_after:
            raise MemoryError
        return whole(learner, batches, **more)

    monkeypatch.setattr(loop, "train_step", failing)
    with pytest.raises(MemoryError):
        pretrain(run, toy_corpus.path, tmp_path / "run")
    monkeypatch.undo()
    pretrain(run, toy_corpus.path, tmp_path / "run")
    told = [
        [(r["step"], r["loss"]) for r in read_metrics(tmp_path / name / "metrics.jsonl") if r["kind"] != "event"]
        for name in ("whole", "run")
    ]
    assert told[0] == told[1]
    a, b = ((tmp_path / name / "checkpoint/model.safetensors").read_bytes() for name in ("whole", "run"))
    assert a == b
