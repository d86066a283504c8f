from umbel.ops.probe import describe


def test_every_operator_is_told_with_its_reason():
    facts = describe()
    assert facts["packages"]["torch"] != "not installed"
    assert {name.split()[0] for name in facts["backends"]} == {"selective_scan", "grouped_mlp"}
    assert all(": " in text for text in facts["backends"].values())
