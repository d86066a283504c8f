from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_packed_run, toy_run

from umbel.data.batches import TrainingBatches, collate
from umbel.data.kmers import KmerTokens
from umbel.data.masking import Example
from umbel.model.hf import new_model
from umbel.train.learner import Learner, LossScale
from umbel.train.processes import World
from umbel.train.step import train_step, validate
from umbel.train.validation import validation_batches

CPU = torch.device("cpu")


def learner_of(run, dtype=None):
    return Learner(new_model(run.model, 256, 0), run, World(CPU), dtype)


def one_step(corpus, run, micro):
    learner = learner_of(run)
    batches = TrainingBatches(corpus, run, KmerTokens(1)).micro_batches(0, micro)
    return train_step(learner, batches).metrics, learner.model


def test_loss_and_step_do_not_depend_on_micro_batches(toy_corpus):
    run = toy_run(balance_coef=0.5, z_coef=0.1)
    results = [one_step(toy_corpus, run, micro) for micro in (4, 2, 1)]
    for metrics, _ in results[1:]:
        assert metrics["loss"] == pytest.approx(results[0][0]["loss"], rel=1e-6)
        assert metrics["grad_norm"] == pytest.approx(results[0][0]["grad_norm"], rel=1e-5)
        assert metrics["accuracy"] == results[0][0]["accuracy"]


def test_loss_by_hand_weights_soft_masked_bases_and_counts_only_the_masked(toy_corpus):
    run = toy_run()
    model = new_model(run.model, 256, 0)
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 2)
    total, weight, right, asked = 0.0, 0.0, 0, 0
    with torch.no_grad():
        for batch in batches:
            logs = model(torch.tensor(batch.input_ids)).logits.log_softmax(-1).numpy()
            for b, t in np.argwhere(batch.labels >= 0):
                w = batch.weights[b, t]
                assert w in (np.float32(0.1), 1.0)
                total -= w * logs[b, t, batch.labels[b, t]]
                weight += w
                right += int(logs[b, t].argmax() == batch.labels[b, t])
                asked += 1
    metrics = train_step(learner_of(run), batches).metrics
    assert metrics["loss"] == pytest.approx(total / weight, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(right / asked)


def test_auxiliary_losses_move_the_router_and_are_not_in_the_reported_loss(toy_corpus):
    plain, model_a = one_step(toy_corpus, toy_run(balance_coef=0.0, z_coef=0.0), 4)
    helped, model_b = one_step(toy_corpus, toy_run(balance_coef=1.0, z_coef=1.0), 4)
    assert plain["loss"] == helped["loss"]
    routers = [dict(m.named_parameters())["backbone.layers.1.ffn.router.weight"] for m in (model_a, model_b)]
    assert not torch.equal(*routers)


def test_a_loss_that_is_not_finite_leaves_the_weights(toy_corpus):
    run = toy_run()
    learner = learner_of(run)
    with torch.no_grad():
        learner.model.backbone.norm.weight.fill_(float("nan"))
    before = learner.model.backbone.layers[0].mixer.out_proj.weight.detach().clone()
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 4)
    report = train_step(learner, batches)
    assert "the loss is nan" in report.problem
    assert torch.equal(learner.model.backbone.layers[0].mixer.out_proj.weight, before)
    assert not learner.optimizers[0].state


def test_shares_follow_the_load_of_the_whole_step_and_begin_even(toy_corpus):
    run = toy_run()
    learner = learner_of(run)
    assert learner.shares.tolist() == [[pytest.approx(1 / 3)] * 3]
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 1)
    seen = sum(learner.model(torch.from_numpy(b.input_ids)).routings[0].counts() for b in batches)
    report = train_step(learner, batches)
    assert learner.shares[0].tolist() == pytest.approx((seen / seen.sum()).tolist())
    assert report.layers[0].load == pytest.approx((seen / seen.sum()).tolist())
    assert report.seen.n_tokens == sum(int(b.attention_mask.sum()) for b in batches) == int(seen.sum())


def test_validation_by_hand(toy_corpus):
    run = toy_run()
    model = new_model(run.model, 256, 0).eval()
    batches = validation_batches(toy_corpus, run, KmerTokens(1))
    losses, right, routed = [], 0, np.zeros(3, int)
    with torch.no_grad():
        for batch in batches:
            output = model(torch.tensor(batch.input_ids))
            logs = output.logits.log_softmax(-1).numpy()
            for b, t in np.argwhere(batch.labels >= 0):
                assert batch.input_ids[b, t] == 3
                losses.append(-logs[b, t, batch.labels[b, t]])
                right += int(logs[b, t].argmax() == batch.labels[b, t])
            chosen = output.routings[0].experts.numpy()
            routed += np.bincount(chosen[chosen >= 0], minlength=3)
    measured = validate(model, batches, CPU, None)
    assert measured["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-6)
    assert measured["accuracy"] == pytest.approx(right / len(losses))
    assert measured["experts"][0]["load"] == pytest.approx((routed / routed.sum()).tolist(), abs=1e-6)


def test_no_validation_contig_gives_no_numbers():
    model = new_model(toy_run().model, 256, 0)
    assert validate(model, [], CPU, None) == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_on_a_cpu_when_asked_to(dtype, toy_corpus):
    run = toy_run(batch_windows=2)
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 2)
    torch.use_deterministic_algorithms(False)
    narrow = train_step(learner_of(run, dtype), batches)
    wide = train_step(learner_of(run), batches)
    assert narrow.problem is None
    assert narrow.metrics["loss"] == pytest.approx(wide.metrics["loss"], rel=2e-2)
    assert narrow.metrics["grad_norm"] == pytest.approx(wide.metrics["grad_norm"], rel=0.1)


def test_a_gradient_too_large_for_float16_is_left_out_and_the_scale_halved(toy_corpus):
    run = toy_run(batch_windows=2)
    learner = learner_of(run, torch.float16)
    learner.scale = LossScale(2.0**40)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 2)
    torch.use_deterministic_algorithms(False)
    report = train_step(learner, batches)
    assert report.problem == "the gradient overflows float16 at a loss scale of 1.09951e+12"
    assert learner.scale.value == 2.0**39
    assert all(torch.equal(p, before[name]) for name, p in learner.model.named_parameters())


def test_the_loss_scale_doubles_after_two_thousand_steps_that_did_not_overflow():
    scale = LossScale(4.0)
    for _ in range(1999):
        scale.follow(overflowed=False)
    assert scale.value == 4.0
    scale.follow(overflowed=False)
    assert (scale.value, scale.n_since) == (8.0, 0)


def test_a_step_moves_the_selection_bias_by_the_load_of_all_micro_batches(toy_corpus):
    run = toy_run(bias_rate=0.125)
    run = replace(run, model=replace(run.model, gating="bias"))
    batches = TrainingBatches(toy_corpus, run, KmerTokens(1)).micro_batches(0, 2)
    before = new_model(run.model, 256, 0)
    seen = [before(torch.from_numpy(b.input_ids)).routings for b in batches]
    _, model = one_step(toy_corpus, run, 2)
    routers = [b.ffn.router for b in model.backbone.layers if hasattr(b.ffn, "router")]
    assert len(routers) == len(seen[0])
    for i, router in enumerate(routers):
        counts = sum(routings[i].counts() for routings in seen).double()
        wanted = 0.125 * torch.sign(counts.mean() - counts)
        assert router.load_bias.tolist() == wanted.tolist()
        assert wanted.any()


def unpacked(batches):
    """The sequences of packed batches, each a batch of its own, with no trace of the others."""
    for batch in batches:
        for b, segments in enumerate(batch.segment_ids):
            real = batch.attention_mask[b] == 1
            for segment in np.unique(segments[real]):
                here = real & (segments == segment)
                yield collate([Example(*(getattr(batch, f)[b, here] for f in ("input_ids", "labels", "weights")))])


def test_packed_rows_give_the_loss_and_gradient_of_their_sequences_alone(toy_corpus):
    run = toy_packed_run(balance_coef=0.0, z_coef=0.0, batch_windows=8)
    batches = TrainingBatches(toy_corpus, run, KmerTokens(3)).micro_batches(1, 4)
    assert all(batch.segment_ids.max() >= 1 for batch in batches)
    results = []
    for given in (batches, list(unpacked(batches))):
        model = new_model(run.model, 256, 0)
        measured = validate(model, given, CPU, None)
        results.append((train_step(Learner(model, run, World(CPU)), given).metrics, measured))
    (packed, packed_valid), (alone, alone_valid) = results
    assert packed["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert packed["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)
    assert packed["accuracy"] == alone["accuracy"]
    assert packed_valid["loss"] == pytest.approx(alone_valid["loss"], rel=1e-5)
    assert packed_valid["experts"][0]["load"] == pytest.approx(alone_valid["experts"][0]["load"])
