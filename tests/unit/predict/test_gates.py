from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import enlarge, toy_stream_model

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe
from umbel.errors import ConfigError
from umbel.genome.sequence import revcomp
from umbel.model.hf import new_model
from umbel.predict.gates import Gates, read_gates, require_expert_layer
from umbel.predict.predictor import Predictor


def toy(k=1, overlapping=False, **changes):
    tokens = KmerTokens(k, overlapping)
    config = replace(toy_stream_model(), vocab_size=92, **changes)
    return Predictor(enlarge(new_model(config, 64, 3, describe(tokens))), "toy", torch.device("cpu"), tokens)


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 5, n).astype(np.uint8) for n in (37, 9, 64)]


@pytest.mark.parametrize(("k", "overlapping"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("changes", [{}, {"gating": "softmax", "top_k": 1}])
def test_shares_equal_a_plain_loop_over_single_sequences(k, overlapping, changes, codes):
    predictor = toy(k, overlapping, **changes)
    for layer in predictor.moe_layers:
        for sequence, gates, routes in zip(
            codes, read_gates(predictor, codes, layer), predictor.routes(codes), strict=True
        ):
            encoding = predictor.tokens.encode(sequence)
            with torch.no_grad():
                routing = predictor.backbone(torch.from_numpy(encoding.ids)[None]).routings[
                    predictor.moe_layers.index(layer)
                ]
            for base, token in enumerate(encoding.token_of_base(len(sequence)).tolist()):
                experts, weights = routing.experts[0, token].tolist(), routing.weights[0, token].tolist()
                wanted, chosen = np.zeros(3), np.zeros(3)
                for expert, weight in zip(experts, weights, strict=True):
                    wanted[expert] += weight / sum(weights)
                    chosen[expert] += 1 / len(experts)
                np.testing.assert_allclose(gates.shares[base], wanted, atol=1e-5)
                np.testing.assert_allclose(gates.chosen[base], chosen)
                assert set(routes[predictor.moe_layers.index(layer), base]) == set(experts)
                logits = routing.logits[0, token].double()
                p = (
                    logits.softmax(-1) if routing.scores == "softmax" else logits.sigmoid() / logits.sigmoid().sum()
                ).numpy()
                assert gates.entropy[base] == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-5)
                assert gates.dominant[base] == wanted.argmax()


def test_strands(codes):
    predictor = toy()
    forward, back, both = (read_gates(predictor, codes, None, strand) for strand in ("forward", "revcomp", "both"))
    turned = read_gates(predictor, [revcomp(sequence) for sequence in codes])
    for a, b, mean, other in zip(forward, back, both, turned, strict=True):
        np.testing.assert_allclose(b.shares, other.shares[::-1], atol=1e-6)
        np.testing.assert_allclose(mean.shares, (a.shares + b.shares) / 2, atol=1e-6)
        np.testing.assert_allclose(mean.shares.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(mean.entropy, (a.entropy + b.entropy) / 2, atol=1e-6)


def test_layers_without_experts_are_named():
    predictor = toy()
    assert require_expert_layer(predictor, None) == 3
    with pytest.raises(ConfigError, match="layer 0 has no experts; those that have: 1, 3"):
        require_expert_layer(predictor, 0)
    with pytest.raises(ConfigError, match="no expert layers"):
        require_expert_layer(toy(pattern="Hd"), None)


def test_the_dominant_expert_is_the_first_of_equals():
    assert Gates(np.array([[0.5, 0.5], [0.2, 0.8]]), np.zeros((2, 2)), np.zeros(2)).dominant.tolist() == [0, 1]
