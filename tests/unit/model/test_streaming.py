from dataclasses import replace

import pytest
import torch
from toys import enlarge, toy_stream_model

from umbel.errors import ConfigError
from umbel.model.backbone import Backbone
from umbel.model.streaming import needs_overlap, stream, streaming_cost

CONFIG = toy_stream_model()


def make(**changes):
    torch.manual_seed(1)
    return enlarge(Backbone(replace(CONFIG, **changes)).eval())


def tokens(length, seed=0):
    return torch.randint(7, 11, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("taps", [0, 3])
@pytest.mark.parametrize(("chunk", "overlap"), [(1, 0), (7, 0), (64, 0), (300, 0), (10, 4), (5, 20)])
def test_hyena_layers_give_what_one_pass_gives(taps, chunk, overlap):
    backbone, ids = make(hyena_taps=taps), tokens(150)
    with torch.no_grad():
        whole = backbone(ids[None])
    parts = list(stream(backbone, ids, chunk=chunk, overlap=overlap))
    assert [part.start for part in parts] == list(range(0, 150, chunk))
    got = torch.cat([part.hidden for part in parts])
    assert float((got - whole.hidden[0]).norm() / whole.hidden.norm()) < 1e-5
    for i, routing in enumerate(whole.routings):
        assert torch.equal(torch.cat([part.routings[i].experts for part in parts], 1), routing.experts)


def test_a_memory_holds_no_more_than_states():
    """A state that is a view would keep, and put on disk, all that it was cut from."""
    part = next(stream(make(hyena_taps=3), tokens(90), chunk=80, overlap=0))
    for state in part.memory.states.values():
        for tensor in (state.recent, state.filter):
            assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()


def test_slow_poles_lose_nothing_over_many_short_windows():
    backbone, ids = make(n_layers=1, pattern="Hd"), tokens(3_000)
    with torch.no_grad():
        backbone.layers[0].mixer.along.log_decay.fill_(-10)
    for chunk in (1, 31, 64):
        assert streaming_cost(backbone, ids, chunk=chunk, overlap=0).max_difference < 1e-4


def test_a_stream_is_taken_up_again():
    backbone, ids = make(hyena_taps=3, pattern="Hd Ae"), tokens(90)
    parts = list(stream(backbone, ids, chunk=20, overlap=8))
    again = list(stream(backbone, ids, chunk=20, overlap=8, memory=parts[1].memory))
    assert [part.start for part in again] == [40, 60, 80]
    for there, here in zip(parts[2:], again, strict=True):
        assert torch.equal(there.hidden, here.hidden)


def test_attention_sees_its_window_and_no_more():
    backbone, ids = make(pattern="Ad"), tokens(100)
    streamed = torch.cat([part.hidden for part in stream(backbone, ids, chunk=30, overlap=10)])
    with torch.no_grad():
        window = backbone(ids[None, 20:70]).hidden[0]
    torch.testing.assert_close(streamed[30:60], window[10:40], atol=1e-5, rtol=0)


def test_the_cost_of_attention_falls_with_the_overlap_and_is_none_in_one_window():
    backbone, ids = make(pattern="Hd Ae"), tokens(160)
    near, far = (streaming_cost(backbone, ids, chunk=40, overlap=overlap) for overlap in (4, 100))
    assert near.n_tokens == 160
    assert near.mean_difference > far.mean_difference > 0
    assert near.max_difference >= near.mean_difference
    assert streaming_cost(backbone, ids, chunk=160, overlap=0).max_difference < 1e-6
    assert streaming_cost(make(), ids, chunk=40, overlap=0).max_difference < 1e-5


def test_the_cost_is_by_token_relative_to_one_pass():
    backbone, ids = make(pattern="Ad"), tokens(60)
    with torch.no_grad():
        whole = backbone(ids[None]).hidden[0].double()
    parts = torch.cat([part.hidden for part in stream(backbone, ids, chunk=20, overlap=5)]).double()
    each = [float((a - b).norm() / b.norm()) for a, b in zip(parts, whole, strict=True)]
    cost = streaming_cost(backbone, ids, chunk=20, overlap=5)
    assert cost.max_difference == pytest.approx(max(each))
    assert cost.mean_difference == pytest.approx(sum(each) / 60)


def test_models_that_wait_for_the_end_are_refused():
    with pytest.raises(ConfigError, match="Mamba layers, which also read against time"):
        next(stream(make(pattern="Md"), tokens(5), chunk=2, overlap=0))
    with pytest.raises(ConfigError, match="look ahead"):
        next(stream(make(hyena_bidirectional=True), tokens(5), chunk=2, overlap=0))
    with pytest.raises(ConfigError, match="chunk is 0"):
        next(stream(make(), tokens(5), chunk=0, overlap=0))
    with pytest.raises(ConfigError, match=r"a window of 20 tokens and 10 on either side has 40, .* at most 39"):
        next(stream(make(pattern="Hd Ae", max_tokens=39), tokens(5), chunk=20, overlap=10))
    assert len(list(stream(make(max_tokens=39), tokens(50), chunk=50, overlap=0))) == 1
    assert needs_overlap(make(pattern="Hd Ae"))
    assert not needs_overlap(make())
