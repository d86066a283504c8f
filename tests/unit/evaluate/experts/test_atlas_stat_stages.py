import numpy as np
import pytest

from umbel.evaluate.experts.statistics.divergence import generalised_js
from umbel.evaluate.experts.statistics.stages import split_stages


def counts(apart, rng=None, n_units=40):
    """Two classes whose experts differ by ``apart``, 0 to 1."""
    rng = rng or np.random.default_rng(0)
    p = np.array([[0.5 + apart / 2, 0.5 - apart / 2], [0.5 - apart / 2, 0.5 + apart / 2]])
    return np.stack([[rng.multinomial(400, row) for row in p] for _ in range(n_units)])


def design(base, a, b, both):
    return {(): counts(base), ("A",): counts(a), ("B",): counts(b), ("A", "B"): counts(both)}


def test_parts_are_the_shapley_values_of_the_design():
    measured = design(0.1, 0.3, 0.5, 0.8)
    found = split_stages(measured, n_draws=100)
    v = {key: float(generalised_js(table.sum(0))) for key, table in measured.items()}
    a, b = found.stages
    first, second = v["A",] - v[()], v["A", "B"] - v["B",]
    assert (found.n_orders, found.is_order_dependent, found.suppressed) == (2, False, False)
    assert a.change.value == pytest.approx((first + second) / 2, abs=2e-4)
    assert (a.lowest, a.highest) == pytest.approx((min(first, second), max(first, second)), abs=2e-4)
    assert a.change.value + b.change.value == pytest.approx(found.total.value)
    assert a.share.value + b.share.value == pytest.approx(1)
    assert found.after.value - found.before.value == pytest.approx(found.total.value)
    assert a.share.low < a.share.value < a.share.high


def test_bias_is_taken_off_every_checkpoint():
    rng = np.random.default_rng(1)
    p = np.full((40, 2, 4), 0.25)
    few = np.stack([[rng.multinomial(3, row) for row in rows] for rows in p])
    plain = float(generalised_js(few.sum(0)))
    found = [split_stages({(): few, ("A",): counts4(rng)}, n_draws=20).before.value for _ in range(1)]
    assert abs(found[0]) < plain
    assert split_stages({(): few, ("A",): counts4(rng)}, n_draws=200).before.low < 0


def counts4(rng):
    return np.stack(
        [[rng.multinomial(50, row) for row in ([0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1])] for _ in range(40)]
    )


def test_a_chain_is_split_and_said_to_depend_on_its_order():
    measured = design(0.1, 0.3, 0.5, 0.8)
    del measured["B",]
    found = split_stages(measured, n_draws=50)
    assert (found.n_orders, found.is_order_dependent) == (1, True)
    v = [float(generalised_js(measured[key].sum(0))) for key in ((), ("A",), ("A", "B"))]
    changes = [stage.change.value for stage in found.stages]
    assert changes == pytest.approx(np.diff(v), abs=2e-4)
    assert found.stages[0].lowest == found.stages[0].highest


def test_a_long_chain_is_no_work():
    names = [f"step {n}" for n in range(14)]
    found = split_stages({tuple(names[:n]): counts(0.05 * n) for n in range(15)}, n_draws=5)
    assert found.n_orders == 1 and found.is_order_dependent and len(found.stages) == 14


def test_three_stages_use_all_six_orders():
    rng = np.random.default_rng(2)
    names = [(), "A", "B", "C", "AB", "AC", "BC", "ABC"]
    apart = dict(zip(names, (0.1, 0.2, 0.3, 0.15, 0.6, 0.3, 0.35, 0.8), strict=True))
    measured = {tuple(key): counts(x, rng) for key, x in apart.items()}
    found = split_stages(measured, n_draws=20)
    assert found.n_orders == 6 and not found.is_order_dependent
    v = {frozenset(key): float(generalised_js(table.sum(0))) for key, table in measured.items()}
    # Shapley's weights: 1/3 for none and for both others before, 1/6 for one of them.
    f = frozenset
    by_hand = (
        (v[f("A")] - v[f()]) / 3
        + (v[f("AB")] - v[f("B")]) / 6
        + (v[f("AC")] - v[f("C")]) / 6
        + (v[f("ABC")] - v[f("BC")]) / 3
    )
    assert found.stages[0].change.value == pytest.approx(by_hand, abs=2e-4)


def test_shares_of_nothing_are_suppressed():
    rng = np.random.default_rng(3)
    found = split_stages({(): counts(0.2, rng), ("A",): counts(0.4, rng), ("A", "B"): counts(0.2, rng)}, n_draws=200)
    assert found.total.low <= 0 <= found.total.high
    assert found.suppressed and found.stages[0].share is None and found.stages[1].share is None
    assert "holds 0" in found.reason
    # The steps themselves are clear.
    assert found.stages[0].change.low > 0 > found.stages[1].change.high


def test_one_unit_is_not_enough():
    found = split_stages({(): counts(0.2, n_units=1), ("A",): counts(0.4, n_units=1)}, n_draws=10)
    assert found.suppressed and "fewer than two units" in found.reason


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match=r"give the base, as \(\), and the one with all stages \(A\)"):
        split_stages({("A",): counts(0.1)})
    with pytest.raises(ValueError, match="none named"):
        split_stages({(): counts(0.1)})
    with pytest.raises(ValueError, match=r"no way from the base to all stages \(A, B\)"):
        split_stages({(): counts(0.1), ("A", "B"): counts(0.1)})
    with pytest.raises(ValueError, match="must have routed the same units"):
        split_stages({(): counts(0.1), ("A",): counts(0.1, n_units=3)})
