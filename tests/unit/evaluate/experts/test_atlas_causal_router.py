"""Edited routers, against the experts written out as plain loops."""

import math

import numpy as np
import pytest
import torch
from adapted import adapted, language_model, small_config, some_ids
from causal_fakes import small_predictor

from umbel.config import ModelConfig
from umbel.errors import AdapterError, ConfigError
from umbel.model import inference
from umbel.model.backbone import Backbone
from umbel.model.edited_router import EditedRouter, Given, KnockOut, Swap, edited
from umbel.model.moe import Router

LAYER = 1
GATINGS = ("softmax", "normalised", "plain", "bias")


def backbone(seed=0, **changes):
    torch.manual_seed(seed)
    shape = {
        "pattern": "Md Me",
        "n_layers": 2,
        "d_model": 8,
        "ffn_hidden": 12,
        "d_state": 4,
        "n_experts": 5,
        "top_k": 2,
    }
    made = Backbone(ModelConfig(**{**shape, **changes})).eval()
    router = made.layers[LAYER].ffn.router
    with torch.no_grad():
        router.weight.copy_(torch.randn(router.weight.shape))
        if router.gating == "bias":
            router.load_bias.copy_(torch.linspace(-0.3, 0.3, len(router.load_bias)))
    return made


def states(rows=2, length=9, width=8, seed=3):
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close_at_bases(a, b, ids):
    """What stands at padding is of no meaning."""
    torch.testing.assert_close(a.hidden[ids != 4], b.hidden[ids != 4], atol=1e-5, rtol=0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_hand(moe, x, barred=(), output_of=None):
    """The routed part for one token, in plain Python; ``output_of`` (expert, all outputs) edits what one gives."""
    W = moe.router.weight.tolist()
    logits = [sum(w * v for w, v in zip(row, x, strict=True)) for row in W]
    ranked = logits
    if moe.router.gating == "bias":
        ranked = [sigmoid(z) + b for z, b in zip(logits, moe.router.load_bias.tolist(), strict=True)]
    order = sorted((e for e in range(len(logits)) if e not in barred), key=lambda e: (-ranked[e], e))
    chosen = order[: moe.router.top_k]
    if moe.router.gating == "softmax":
        total = sum(math.exp(z) for z in logits)
        weights = [math.exp(logits[e]) / total for e in chosen]
    elif moe.router.gating == "plain":
        weights = [sigmoid(logits[e]) for e in chosen]
    else:
        total = sum(sigmoid(logits[e]) for e in chosen)
        weights = [sigmoid(logits[e]) / total for e in chosen]
    made = []
    for gate, up, down in zip(moe.gate.tolist(), moe.up.tolist(), moe.down.tolist(), strict=True):
        hidden = []
        for g, u in zip(gate, up, strict=True):
            a, b = (sum(w * v for w, v in zip(row, x, strict=True)) for row in (g, u))
            hidden.append(a * sigmoid(a) * b)
        made.append([sum(w * h for w, h in zip(row, hidden, strict=True)) for row in down])
    made = np.array(made)
    outputs = [made[e] if output_of is None else output_of(e, made) for e in chosen]
    return chosen, weights, sum(w * out for w, out in zip(weights, outputs, strict=True))


EDITS = {
    "none": ((), {}),
    "reroute": ((KnockOut(LAYER, 3),), {"barred": (3,)}),
    "reroute two": ((KnockOut(LAYER, 3), KnockOut(LAYER, 0)), {"barred": (0, 3)}),
    "silence": ((KnockOut(LAYER, 3, "silence"),), {"output_of": lambda e, made: made[e] * (e != 3)}),
    "mean": ((KnockOut(LAYER, 3, "mean"),), {"output_of": lambda e, made: made.mean(0) if e == 3 else made[e]}),
    "swap": ((Swap(LAYER, 1, 3),), {"output_of": lambda e, made: made[{1: 3, 3: 1}.get(e, e)]}),
    "reroute and swap": (
        (Swap(LAYER, 1, 3), KnockOut(LAYER, 0)),
        {"barred": (0,), "output_of": lambda e, made: made[{1: 3, 3: 1}.get(e, e)]},
    ),
}


@pytest.mark.parametrize("gating", GATINGS)
@pytest.mark.parametrize("name", EDITS)
def test_edits_do_what_plain_loops_do(gating, name):
    edits, told = EDITS[name]
    model = backbone(gating=gating, n_shared_experts=1).double()
    moe, x = model.layers[LAYER].ffn, states()
    changed = 0
    with torch.no_grad(), edited(model, *edits):
        found, _ = moe(x)
        found = found - moe.shared(x)
    for row in range(x.shape[0]):
        for t in range(x.shape[1]):
            _, _, expected = by_hand(moe, x[row, t].tolist(), **told)
            changed += not np.allclose(expected, by_hand(moe, x[row, t].tolist())[2], atol=1e-6)
            np.testing.assert_allclose(found[row, t].numpy(), expected, rtol=1e-9, atol=1e-11)
    # The test must not be passed by a router that edits nothing.
    assert (changed > 3) == (name != "none")


@pytest.mark.parametrize("gating", GATINGS)
@pytest.mark.parametrize("mode", ["reroute", "silence", "mean"])
def test_an_expert_that_nobody_takes_changes_no_bit(gating, mode):
    model = backbone(gating=gating, top_k=1)
    ids, router = some_ids(), model.layers[LAYER].ffn.router
    with torch.no_grad():
        # A copy of another's row loses every tie.
        router.weight[4] = router.weight[0]
        if gating == "bias":
            router.load_bias[4] = router.load_bias[0]
        with edited(model):
            before = model(ids)
        taken = set(before.routings[0].experts.unique().tolist()) - {-1}
        assert 4 not in taken
        with edited(model, KnockOut(LAYER, 4, mode)):
            after = model(ids)
        assert torch.equal(before.hidden, after.hidden)
        assert torch.equal(before.routings[0].experts, after.routings[0].experts[..., :1])
        with edited(model, KnockOut(LAYER, next(iter(taken)), mode)):
            assert not torch.equal(before.hidden, model(ids).hidden)


def test_two_swaps_of_a_pair_are_none_and_one_is_a_permutation_of_their_weights():
    model = backbone()
    moe, ids = model.layers[LAYER].ffn, some_ids()
    with torch.no_grad():
        with edited(model):
            before = model(ids).hidden
        with edited(model, Swap(LAYER, 1, 3), Swap(LAYER, 3, 1)):
            assert torch.equal(model(ids).hidden, before)
        with edited(model, Swap(LAYER, 1, 3)):
            swapped = model(ids).hidden
        for weight in (moe.gate, moe.up, moe.down):
            weight[[1, 3]] = weight[[3, 1]]
        with edited(model):
            assert torch.equal(model(ids).hidden, swapped)
    assert not torch.allclose(before, swapped, atol=1e-4)


def test_routes_that_are_given_are_taken_with_own_weights_or_theirs():
    model, other = backbone(seed=0), backbone(seed=1)
    ids = some_ids()
    with torch.no_grad():
        with edited(model):
            own = model(ids)
        with edited(other):
            (routing,) = other(ids).routings
        for with_weights in (False, True):
            with edited(model, Given(own.routings[0], with_weights)):
                assert torch.equal(model(ids).hidden, own.hidden)
            with edited(model, Given(routing, with_weights)):
                (found,) = model(ids).routings
            assert torch.equal(found.experts, routing.experts)
            softmax = found.logits.softmax(-1).gather(-1, routing.experts.clamp(min=0)) * routing.real[..., None]
            torch.testing.assert_close(found.weights, routing.weights if with_weights else softmax)
        assert not torch.equal(own.routings[0].experts, routing.experts)


def test_padding_is_never_routed():
    model, ids = backbone(), some_ids()
    for edits in (KnockOut(LAYER, 0),), (KnockOut(LAYER, 0, "mean"),), (Swap(LAYER, 0, 1),):
        with torch.no_grad(), edited(model, *edits):
            whole = model(ids)
            alone = model(ids[1:2, :17])
        assert (whole.routings[0].experts[ids == 4] == -1).all()
        assert (whole.routings[0].weights[ids == 4] == 0).all()
        torch.testing.assert_close(whole.hidden[1, :17], alone.hidden[0], atol=1e-5, rtol=0)


def test_the_pass_of_a_cpu_is_declined_and_so_honours_the_edit():
    predictor = small_predictor()
    model, ids = predictor.backbone, some_ids()
    with torch.inference_mode():
        assert inference.is_possible(model)
        fast = model(ids)
        with edited(model):
            assert not inference.is_possible(model)
            ordinary = model(ids)
        close_at_bases(fast, ordinary, ids)
        with edited(model, KnockOut(1, 2)):
            knocked = model(ids)
        assert 2 in ordinary.routings[0].experts and 2 not in knocked.routings[0].experts
        # The fast pass cannot be told to silence an expert, but it runs one whose output is nothing.
        with edited(model, KnockOut(1, 2, "silence")):
            silenced = model(ids)
        model.layers[1].ffn.down[2] = 0
        assert inference.is_possible(model)
        close_at_bases(model(ids), silenced, ids)


def test_rounded_weights_can_be_edited():
    from umbel.model.int8 import round_backbone

    model = backbone(d_model=16)
    ids = some_ids()
    with torch.inference_mode():
        round_backbone(model)
        plain = model(ids)
        with edited(model):
            close_at_bases(model(ids), plain, ids)
        with edited(model, KnockOut(LAYER, 1)):
            found = model(ids)
    assert 1 in plain.routings[0].experts and 1 not in found.routings[0].experts


def test_adapters_around_router_and_experts_are_honoured():
    model = language_model(small_config(top_k=1))
    ids = some_ids()
    with torch.no_grad():
        bare = model.backbone(ids).hidden
    adapted(model)
    with torch.no_grad():
        tuned = model.backbone(ids)
        assert not torch.allclose(bare, tuned.hidden, atol=1e-3)
        with edited(model.backbone):
            same = model.backbone(ids)
        close_at_bases(same, tuned, ids)
        expert = int(tuned.routings[0].experts[0, 0])
        with edited(model.backbone, KnockOut(LAYER, expert)):
            found = model.backbone(ids)
        # Where the tuned router sent tokens elsewhere, nothing changed but through what they mix with; its logits stay.
        assert torch.equal(found.routings[0].logits, same.routings[0].logits)
        assert expert not in found.routings[0].experts
        again = model.backbone(ids)
    assert torch.equal(again.hidden, tuned.hidden)


def test_an_adapter_that_is_no_addition_is_refused_by_name():
    model = language_model(small_config())
    adapter = adapted(model, ("router",))
    router = model.backbone.layers[LAYER].ffn.router
    router.lora_variant["default" if "default" in router.lora_A else next(iter(router.lora_A))] = object()
    said = r"router: its adapter cannot be used here.*is no plain LoRA"
    with pytest.raises(AdapterError, match=said), edited(model.backbone, KnockOut(LAYER, 0)):
        pass
    assert adapter is not None


def test_routers_come_back_whatever_happens():
    model = backbone()
    moe = model.layers[LAYER].ffn
    before, keys = moe.router, list(model.state_dict())
    with pytest.raises(ZeroDivisionError), edited(model, KnockOut(LAYER, 0)):
        assert isinstance(moe.router, EditedRouter) and moe.router.weight is before.weight
        assert list(model.state_dict()) == keys
        raise ZeroDivisionError
    assert moe.router is before and type(before) is Router
    said = "edited already: give all edits at once"
    with edited(model), pytest.raises(ConfigError, match=said), edited(model, KnockOut(LAYER, 0)):
        pass
    assert moe.router is before


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([KnockOut(0, 1)], "layer 0 has no experts; those that have: 1$"),
        ([KnockOut(1, 5)], "layer 1, expert 5 knocked out: there are experts 0 to 4"),
        ([Swap(1, -1, 2)], "layer 1, experts -1 and 2 swapped: there are experts 0 to 4"),
        ([Swap(1, 2, 2)], "layer 1, experts 2 and 2 swapped: name two experts"),
        ([KnockOut(1, 0, "kill")], "kill is no way to knock an expert out: use reroute, silence or mean"),
        ([KnockOut(1, e) for e in range(4)], "with 4 of 5 experts knocked out a token cannot have the 2 that it takes"),
        ([KnockOut(1, 0, "mean"), Swap(1, 1, 2)], "layer 1, expert 0 replaced by the mean cannot be combined"),
    ],
)
def test_refused_edits(edits, said):
    model = backbone()
    with pytest.raises(ConfigError, match=said), edited(model, *edits):
        pass
    assert type(model.layers[LAYER].ffn.router) is Router


def test_there_is_no_next_best_where_all_experts_are_chosen():
    model = backbone(n_experts=2)
    said = "so there is no next best: use mode silence or mean"
    with pytest.raises(ConfigError, match=said), edited(model, KnockOut(LAYER, 0)):
        pass
    with torch.no_grad(), edited(model, KnockOut(LAYER, 0, "silence")):
        assert model(some_ids()).routings[0].weights.min() == 0


def test_given_routes_of_another_batch_are_refused():
    model, ids = backbone(), some_ids()
    with torch.no_grad():
        (routing,) = model(ids).routings
        with (
            edited(model, Given(routing)),
            pytest.raises(ConfigError, match=r"routes of \(3, 21, 2\) were given .* \(1, 21, 2\)"),
        ):
            model(ids[:1])
        with (
            pytest.raises(ConfigError, match="given routes cannot be combined"),
            edited(model, Given(routing), Swap(1, 0, 1)),
        ):
            pass
