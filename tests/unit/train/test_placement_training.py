"""Training with cut spans: its loss, what is recorded, and that it can be learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_placement_run, toy_run

from umbel.config import MaskingConfig, to_dict
from umbel.data.batches import TrainingBatches, collate
from umbel.data.kmers import KmerTokens
from umbel.data.objectives import make_example
from umbel.errors import RunError
from umbel.evaluate.training_curve import read_curve
from umbel.model.hf import new_model
from umbel.train.loop import train_step, validate
from umbel.train.optim import make_optimizers
from umbel.train.pretrain import placement_batches, pretrain, untrained_model, validation_batches
from umbel.train.state import read_metrics

CPU, ONE = torch.device("cpu"), KmerTokens(1)


def quiet_run(**masking):
    run = toy_placement_run(balance_coef=0.0, z_coef=0.0)
    return replace(run, masking=replace(run.masking, **masking))


def one_step(run, batches, dtype=None):
    model = untrained_model(run, ONE)
    return train_step(model, make_optimizers(model, run.optim), batches, run, 0, CPU, dtype), model


def batches_of(corpus, run, n):
    return TrainingBatches(corpus, replace(run, train=replace(run.train, batch_windows=n, micro_batch_windows=1)), ONE)


def some_batches(corpus, run, micro, n=6):
    return batches_of(corpus, run, n).micro_batches(0, micro)


def test_both_losses_and_the_step_do_not_depend_on_micro_batches(toy_corpus):
    run = quiet_run()
    first, *others = (one_step(run, some_batches(toy_corpus, run, micro)) for micro in (6, 2, 1))
    assert {"loss", "accuracy", "placement_loss", "placement_accuracy"} < first[0].keys()
    for metrics, model in others:
        for name in ("loss", "placement_loss"):
            assert metrics[name] == pytest.approx(first[0][name], rel=1e-6)
        for name in ("accuracy", "placement_accuracy"):
            assert metrics[name] == first[0][name]
        assert metrics["grad_norm"] == pytest.approx(first[0]["grad_norm"], rel=1e-4)
        grads = [m.placement.query.weight.grad for m in (model, first[1])]
        torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-7)


def test_losses_by_hand_over_the_examples_that_ask_for_them(toy_corpus):
    run = quiet_run()
    rows = batches_of(toy_corpus, run, 6).rows(0)
    model = untrained_model(run, ONE)
    total, weight, losses, right = 0.0, 0.0, [], []
    with torch.no_grad():
        for (example,) in rows:
            ids = torch.from_numpy(example.input_ids)[None]
            if example.placement is None:
                logs = model(ids).logits.log_softmax(-1)[0].numpy()
                for t in np.flatnonzero(example.labels >= 0):
                    total -= example.weights[t] * logs[t, example.labels[t]]
                    weight += example.weights[t]
                continue
            hidden = model.backbone(ids).hidden[0]
            n = example.placement.max()
            keys = [model.placement.key(hidden[example.placement == -j][0]) for j in range(1, n + 1)]
            for j in range(1, n + 1):
                query = model.placement.query(hidden[example.placement == j].mean(0))
                scores = torch.stack([query @ key for key in keys]) / 4
                losses.append(float(-scores.log_softmax(0)[j - 1]))
                right.append(int(scores.argmax()) == j - 1)
    assert losses
    assert weight
    metrics, _ = one_step(run, some_batches(toy_corpus, run, 3))
    assert metrics["loss"] == pytest.approx(total / weight, rel=1e-5)
    assert metrics["placement_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["placement_accuracy"] == pytest.approx(np.mean(right))


def test_the_coefficient_weighs_the_placement_loss_alone(toy_corpus):
    run = quiet_run()
    batches = some_batches(toy_corpus, run, 6)
    grads = {}
    for coef in (0.0, 1.0, 2.0):
        _, model = one_step(
            replace(run, train=replace(run.train, placement_coef=coef), optim=replace(run.optim, clip_norm=1e9)),
            batches,
        )
        grads[coef] = model.backbone.layers[0].mixer.out_proj.weight.grad.clone()
        if coef == 0:
            assert not model.placement.key.weight.grad.any()
    assert grads[0.0].abs().max() > 0
    torch.testing.assert_close(grads[2.0] - grads[1.0], grads[1.0] - grads[0.0], rtol=1e-3, atol=1e-6)
    assert not torch.allclose(grads[1.0], grads[0.0])


def test_what_is_not_asked_is_not_recorded(toy_corpus):
    plain, _ = one_step(toy_run(), some_batches(toy_corpus, toy_run(), 6))
    assert plain.keys() == {"loss", "accuracy", "lr", "grad_norm"}
    only = quiet_run(uniform_weight=0.0, span_weight=0.0)
    metrics, _ = one_step(only, some_batches(toy_corpus, only, 6))
    assert metrics.keys() == {"placement_loss", "placement_accuracy", "n_unplaced", "lr", "grad_norm"}
    assert metrics["n_unplaced"] == 0


def test_windows_without_room_are_counted_and_ask_for_hidden_bases(toy_corpus):
    run = quiet_run(uniform_weight=0.0, span_weight=0.0, placement_spans=20)
    metrics, _ = one_step(run, some_batches(toy_corpus, run, 2))
    assert metrics["n_unplaced"] == 6
    assert metrics["loss"] > 0
    assert "placement_loss" not in metrics
    assert placement_batches(toy_corpus, run, ONE) == []


def test_bf16_gives_nearly_the_same_placement_loss(toy_corpus):
    run = quiet_run()
    batches = some_batches(toy_corpus, run, 6)
    torch.use_deterministic_algorithms(False)
    narrow, _ = one_step(run, batches, torch.bfloat16)
    wide, _ = one_step(run, batches)
    assert narrow["placement_loss"] == pytest.approx(wide["placement_loss"], rel=2e-2)


def test_a_placement_loss_that_is_not_finite_stops_the_run(toy_corpus):
    run = quiet_run(uniform_weight=0.0, span_weight=0.0)
    model = untrained_model(run, ONE)
    with torch.no_grad():
        model.placement.key.weight.fill_(float("nan"))
    with pytest.raises(RunError, match=r"step 4: the loss is 0.0, that of span placement nan and the gradient norm"):
        train_step(model, make_optimizers(model, run.optim), some_batches(toy_corpus, run, 6), run, 4, CPU, None)


def test_validation_asks_the_same_of_every_run_and_placement_beside_it(toy_corpus):
    run, plain = toy_placement_run(), toy_run()
    placed = placement_batches(toy_corpus, run, ONE)
    assert placement_batches(toy_corpus, plain, ONE) == []
    hidden = validation_batches(toy_corpus, run, ONE)
    for a, b in zip(hidden, validation_batches(toy_corpus, plain, ONE), strict=True):
        assert (a.input_ids == b.input_ids).all()
        assert (a.labels == b.labels).all()
    again = placement_batches(toy_corpus, run, ONE)
    assert all((a.placement == b.placement).all() for a, b in zip(placed, again, strict=True))
    assert all((batch.placement.max(1) == 3).all() for batch in placed)
    model = untrained_model(run, ONE)
    together = validate(model, [*hidden, *placed], CPU, None)
    apart = validate(model, hidden, CPU, None) | validate(model, placed, CPU, None)
    assert together == apart
    assert validate(model, placed, CPU, None).keys() == {"placement_loss", "placement_accuracy"}
    assert together["placement_loss"] == pytest.approx(np.log(3), rel=0.1)


def test_a_run_records_placement_in_metrics_and_tensorboard(toy_placement_training):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = read_metrics(toy_placement_training / "metrics.jsonl")
    steps = [r for r in records if r["kind"] == "train"]
    placed = [r for r in steps if "placement_loss" in r]
    assert placed
    assert any("loss" in r for r in steps)
    assert all(r["n_unplaced"] == 0 for r in steps)
    assert {"loss", "accuracy", "placement_loss", "placement_accuracy"} < records[-1].keys()
    board = EventAccumulator(str(toy_placement_training / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/placement_loss")] == [r["step"] for r in placed]
    assert len(board.Scalars("valid/placement_accuracy")) == 2


def test_a_run_of_placement_alone_ends_with_a_checkpoint_and_a_curve(toy_corpus, tmp_path):
    run = toy_placement_run(steps=2, eval_every_steps=1)
    run = replace(run, masking=replace(run.masking, uniform_weight=0.0, span_weight=0.0))
    result = pretrain(run, toy_corpus.path, tmp_path / "run")
    assert "loss" not in result.train
    assert result.train["placement_loss"] > 0
    assert result.valid["loss"] > 0
    curve = read_curve(tmp_path / "run")
    assert curve["train"]["loss"] == []
    assert curve["valid"]["step"] == [1, 2]
    assert curve["n_skipped"] == 0


def blocks(draws, n_blocks=4, block_bp=40):
    """A window whose blocks have two letters each, another pair in every block: what stands beside a gap tells."""
    pairs = draws.permutation([(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)])[:n_blocks]
    return np.concatenate([draws.choice(pair, block_bp) for pair in pairs]).astype(np.uint8)


def test_a_tiny_model_learns_to_place_spans_by_what_stands_beside_the_gaps():
    draws = np.random.default_rng(0)
    masking = MaskingConfig(uniform_weight=0, placement_weight=1, placement_spans=4, placement_span_tokens=10)
    run = toy_run(steps=60, balance_coef=0.0, z_coef=0.0)
    run = replace(run, masking=masking, model=replace(run.model, pattern="Md", d_model=32))
    model = untrained_model(run, ONE)
    optimizers = make_optimizers(model, run.optim)

    def batch(step, n=16):
        windows = [blocks(draws) for _ in range(n)]
        return collate([make_example(w, w > 4, masking, 0, step, i, ONE) for i, w in enumerate(windows)])

    told = [train_step(model, optimizers, [batch(step)], run, step, CPU, None) for step in range(60)]
    measured = validate(model, [batch(10_000 + i) for i in range(4)], CPU, None)
    assert told[0]["placement_loss"] == pytest.approx(np.log(4), rel=0.1)
    assert measured["placement_accuracy"] > 0.5
    assert measured["placement_loss"] < 1.1


def test_settings_of_a_plain_run_make_a_plain_model():
    assert untrained_model(toy_run(), ONE).placement is None
    model = new_model(toy_run().model, 256, 0)
    assert not to_dict(toy_run())["masking"]["placement_weight"]
    assert untrained_model(toy_run(), ONE).state_dict().keys() == model.state_dict().keys()
