"""Hooks are taken off again, whatever happens, and a pass that is computed twice counts once."""

import pytest
import torch
from hooked_families import tiny_model
from torch import nn

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.executed import Executed
from umbel.evaluate.experts.hooked.recorder import Recorder, leaves
from umbel.evaluate.experts.hooked.sites import find_routers

TOKENS = torch.arange(4, 20)[None]


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_taken_off_after_the_block_and_after_an_error():
    model = tiny_model("jamba")
    before = n_hooks(model)
    routers = find_routers(model)
    with Recorder(routers) as recorder, Executed(routers):
        assert n_hooks(model) > before
        model(TOKENS, use_cache=False)
    assert n_hooks(model) == before
    assert [len(recorder.calls(i)) for i in range(len(routers))] == [1] * len(routers)
    with pytest.raises(RuntimeError, match="stop"), Recorder(routers), Executed(routers):
        raise RuntimeError("stop")
    assert n_hooks(model) == before
    with torch.inference_mode():
        model(TOKENS, use_cache=False)
    assert all(len(recorder.calls(i)) == 1 for i in range(len(routers)))


def test_a_hook_that_cannot_be_put_on_leaves_none():
    model = tiny_model("mixtral")
    before = n_hooks(model)
    routers = list(find_routers(model))
    broken = type("Broken", (), {"experts": None, "module": None})()
    with pytest.raises(AttributeError), Recorder([*routers, broken]):
        pass
    assert n_hooks(model) == before


def test_the_answers_are_those_of_the_model_without_hooks():
    model = tiny_model("mixtral")
    with torch.inference_mode():
        plain = model(TOKENS).last_hidden_state
        with Recorder(find_routers(model)):
            hooked = model(TOKENS).last_hidden_state
    assert torch.equal(plain, hooked)


def test_gradient_checkpointing_fires_twice_and_counts_once():
    model = tiny_model("mixtral")
    checkpointing = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    checkpointing({"use_reentrant": False})
    model.train()
    routers = find_routers(model)
    with Recorder(routers) as recorder:
        model(TOKENS, use_cache=False).last_hidden_state.sum().backward()
    assert [len(recorder.calls(i)) for i in range(4)] == [2] * 4
    assert all(recorder.single(i) is recorder.calls(i)[0] for i in range(4))
    assert recorder.order == [0, 1, 2, 3]


def test_one_router_for_several_layers_is_refused():
    block = nn.ModuleDict({"gate": nn.Linear(4, 2), "experts": nn.ModuleList(nn.Linear(4, 4) for _ in range(2))})
    with Recorder(find_routers(block)) as recorder:
        block["gate"](torch.zeros(3, 4))
        block["gate"](torch.ones(3, 4))
    with pytest.raises(ConfigError, match="gate was called 2 times in one pass, with different answers"):
        recorder.single(0)
    recorder.clear()
    assert recorder.single(0) is None and recorder.order == []


def test_leaves_keep_their_order_and_lose_their_graph():
    x = torch.ones(2, requires_grad=True)
    found = leaves((x * 2, {"a": [x * 3, None]}, [True], [4, 5], "word"))
    assert [leaf if isinstance(leaf, tuple) else leaf.tolist() for leaf in found] == [[2, 2], [3, 3], (4, 5)]
    assert not any(leaf.requires_grad for leaf in found if isinstance(leaf, torch.Tensor))
