"""Every family of Hugging Face that can be built tiny: what is recorded is what the experts ran."""

import numpy as np
import pytest
from hooked_families import DEFAULT, LONG_TAIL, tiny_model, tokens_that_changed, word_tokenizer, words

from umbel.evaluate.experts.hooked.model import HookedModel

TEXTS = [words(9, 1), words(14, 2), words(11, 3), words(4, 4)]


def mask(experts, n):
    found = np.zeros((len(experts), n), bool)
    for t, row in enumerate(experts):
        for e in row:
            if e >= 0:
                assert not found[t, e]
                found[t, e] = True
    return found


def same(a, b):
    assert a.index == b.index
    np.testing.assert_array_equal(a.tokens, b.tokens)
    for one, other in zip(a.sites, b.sites, strict=True):
        np.testing.assert_array_equal(np.sort(one.experts, 1), np.sort(other.experts, 1))
        np.testing.assert_allclose(one.entropy, other.entropy, atol=2e-4)
        np.testing.assert_allclose(np.sort(one.weights, 1), np.sort(other.weights, 1), atol=2e-4)
        np.testing.assert_allclose(one.margin, other.margin, atol=2e-4)


def check_family(family):
    model = tiny_model(family)
    hooked = HookedModel(model, word_tokenizer())
    routed, changed = tokens_that_changed(hooked, words(12))
    assert routed.tokens.shape == (14,)
    for site, routes, ran in zip(hooked.sites, routed.sites, changed, strict=True):
        recorded = mask(routes.experts, site.n_experts)
        # Experts that return what they get have no weights to silence.
        n = 8 if family == "longcat_flash" else site.n_experts
        np.testing.assert_array_equal(recorded[:, :n], ran[:, :n], err_msg=site.name)
        assert routes.experts.shape == (14, site.top_k)
        if site.scores != "unknown":
            assert (routes.entropy >= 0).all() and (routes.entropy <= np.log(site.n_experts + 1)).all()
            assert routes.entropy.std() > 0
    together = {each.index: each for each in hooked.route(TEXTS)}
    taken = np.array([[(site.experts >= 0).sum() for site in each.sites] for each in together.values()]).sum(0)
    n_tokens = sum(len(text.split()) + 2 for text in TEXTS)
    k = np.array([site.top_k for site in hooked.sites])
    # A pad that was counted would show here, and so would a token that was left out.
    if family != "zaya":
        np.testing.assert_array_equal(taken, k * n_tokens)
    for i, text in enumerate(TEXTS):
        (alone,) = hooked.route([text])
        same(together[i], type(alone)(i, alone.tokens, alone.counted, alone.sites))
    if hooked.facts["batching"] == "padded":
        left = HookedModel(model, word_tokenizer(), padding_side="left")
        for each in left.route(TEXTS):
            same(each, together[each.index])
    return hooked


@pytest.mark.parametrize("family", DEFAULT)
def test_record_is_what_ran(family):
    check_family(family)


def test_routers_that_a_family_forgot_to_declare_are_found_too():
    hooked = check_family("deepseek_v4")
    first, *_, last = hooked.notes[: len(hooked.sites)]
    assert [site.layer for site in hooked.sites] == [0, 1, 2, 3]
    assert "its weight (8, 32) stands beside 8 experts" in first and "declared by DeepseekV4Model" in last
    # The first layers choose by the token's id alone, so what is best by score is often not taken.
    (routed,) = hooked.route([words(30)])
    assert (routed.sites[0].margin < 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("family", LONG_TAIL)
def test_record_is_what_ran_in_the_long_tail(family):
    check_family(family)
