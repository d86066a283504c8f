"""Names and what they mean, against lists written by hand."""

import pytest
from adapted import small_config

from umbel.errors import AdapterError
from umbel.model.adapters.targets import find_targets
from umbel.model.backbone import Backbone


def found(pattern, *names, **shape):
    targets = find_targets(Backbone(small_config(pattern, n_layers=len(pattern.split()), **shape)), names)
    return [target.name.removeprefix("backbone.layers.") for target in targets]


def test_mixers():
    assert found("Md", "mixers") == [
        "0.mixer.in_proj",
        "0.mixer.out_proj",
        "0.mixer.along.x_proj",
        "0.mixer.against.x_proj",
    ]
    assert found("Md", "mixers", tie_projections=False, fusion="gate") == [
        "0.mixer.in_proj",
        "0.mixer.out_proj",
        "0.mixer.in_proj_backward",
        "0.mixer.out_proj_backward",
        "0.mixer.along.x_proj",
        "0.mixer.against.x_proj",
    ]
    assert found("Hd Ad", "mixers") == ["0.mixer.in_proj", "0.mixer.out_proj", "1.mixer.in_proj", "1.mixer.out_proj"]


def test_ffn_is_dense_and_shared():
    assert found("Ad Ae", "ffn", n_shared_experts=2) == [
        *(f"0.ffn.{part}" for part in ("gate", "up", "down")),
        *(f"1.ffn.shared.{part}" for part in ("gate", "up", "down")),
    ]


def test_experts_and_router():
    assert found("Ad Ae", "experts") == ["1.ffn.gate", "1.ffn.up", "1.ffn.down"]
    assert found("Ad Ae", "router") == ["1.ffn.router"]
    backbone = Backbone(small_config("Ae", n_layers=1))
    experts = {name: [t.experts for t in find_targets(backbone, name)] for name in (("experts",), ("experts:3,0,3",))}
    assert experts == {("experts",): [(0, 1, 2, 3)] * 3, ("experts:3,0,3",): [(0, 3)] * 3}
    assert [t.experts for t in find_targets(backbone, ("experts:1", "experts:0,1"))] == [(0, 1)] * 3


def test_ends_of_names():
    assert found("Md", "dt_proj") == ["0.mixer.along.dt_proj", "0.mixer.against.dt_proj"]
    assert found("Md", "against.dt_proj.weight") == ["0.mixer.against.dt_proj"]
    assert found("Md Md", "layers.1.mixer.in_proj") == ["1.mixer.in_proj"]
    assert found("Ad Ae", "gate", n_shared_experts=1) == ["0.ffn.gate", "1.ffn.gate", "1.ffn.shared.gate"]
    assert found("Md", "mixer.fuse", fusion="concat") == ["0.mixer.fuse"]


def test_each_weight_once_and_in_the_order_of_the_network():
    assert found("Md", "dt_proj", "in_proj", "mixers", "mixers") == [
        "0.mixer.in_proj",
        "0.mixer.out_proj",
        "0.mixer.along.x_proj",
        "0.mixer.along.dt_proj",
        "0.mixer.against.x_proj",
        "0.mixer.against.dt_proj",
    ]


def test_widths_and_blocks():
    backbone = Backbone(small_config("Md Ae"))
    by_name = {t.name.removeprefix("backbone.layers."): t for t in find_targets(backbone, ("mixers", "ffn", "experts"))}
    assert (by_name["0.mixer.in_proj"].n_in, by_name["0.mixer.in_proj"].n_out) == (16, 64)
    assert (by_name["0.mixer.along.x_proj"].n_in, by_name["0.mixer.along.x_proj"].n_out) == (32, 1 + 2 * 4)
    assert (by_name["1.ffn.down"].n_in, by_name["1.ffn.down"].n_out, by_name["1.ffn.down"].layer) == (24, 16, 1)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ((), "adapter.targets is empty: name some of mixers, ffn, router, experts, experts:0,... .of 0 to 3."),
        (("mixers", "xproj"), "'xproj' matches nothing in this model .'Md Ae'.. Here are mixers, ffn,.*x_proj"),
        (("proj",), "'proj' matches nothing"),
        (("experts:1,4",), "'experts:1,4' names expert 4, and each layer has 4, numbered 0 to 3"),
        (("experts:",), "'experts:' matches nothing"),
        (("A_log",), "'A_log' is layers.0.mixer.along.A_log, which can have no low-rank update"),
        (("embedding",), "'embedding' is embedding, which can have no low-rank update"),
        (("mixer",), "'mixer' is layers.0.mixer, which can have no low-rank update"),
        (("lm_head",), "'lm_head' matches nothing"),
    ],
)
def test_a_name_that_means_nothing_is_refused(names, problem):
    with pytest.raises(AdapterError, match=problem):
        find_targets(Backbone(small_config("Md Ae")), names)


def test_groups_that_this_network_lacks_are_refused():
    for name in ("ffn", "router", "experts"):
        backbone = Backbone(small_config("Me" if name == "ffn" else "Md"))
        with pytest.raises(AdapterError, match=f"'{name}' matches nothing in this model"):
            find_targets(backbone, ("mixers", name))
