from umbel.ops import backends
from umbel.ops.probe import describe


def test_every_operator_is_told_with_its_reason(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    facts = describe()
    assert facts["packages"]["torch"] != "not installed"
    told = facts["backends"]
    operators = {"selective_scan", "causal_conv", "long_conv", "grouped_mlp", "add_rms_norm"}
    assert {name.split(",")[0] for name in told} == operators
    assert told["selective_scan, float32 on cpu"] == (
        "cpu: numba kernels on torch's threads; not triton, which takes tensors on a CUDA device"
    )


def test_a_missing_numba_is_told(monkeypatch):
    monkeypatch.setitem(backends.INSTALLED, "numba", False)
    told = describe()["backends"]["selective_scan, float32 on cpu"]
    assert told.startswith("chunked: plain torch")
    assert "not cpu, which needs numba, which is not installed (pip install numba)" in told


def test_precisions_are_told_with_their_speed(monkeypatch):
    told = describe()["precisions"]
    assert told["fp32 on cpu"] == "the measure of the others"
    assert "its products run at" in told["bf16 on cpu"] and told["int8 on cpu"].endswith("small models gain nothing")
    monkeypatch.setattr("umbel.ops.int8.why_not_here", lambda: "this torch has none")
    assert describe()["precisions"]["int8 on cpu"] == "not here: this torch has none"
