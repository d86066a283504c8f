import copy
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from evaluation_fakes import realistic_result

from umbel.evaluate.curve_figure import draw_curve, spread
from umbel.evaluate.report import heat_map, render_report, strongest_preference, write_report
from umbel.evaluate.wording import judge, limits, number, signed, span, verdict_lines, verdicts
from umbel.page import cell_colour

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Balanced(HTMLParser):
    """Checks that elements close in order, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID and tag not in ("path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag in ("li", "p") and self.open[-1] != tag:
            raise AssertionError(f"</{tag}> closes <{self.open[-1]}>")
        if tag not in ("path", "use", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def text_of(page: str) -> str:
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    return " ".join(parser.text.split())


@pytest.fixture
def result() -> dict[str, Any]:
    return realistic_result()


def test_page_is_whole_and_self_contained(result: dict[str, Any], tmp_path: Path) -> None:
    write_report(result, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = text_of(page)
    for section in ("Predicting hidden bases", "How it got there", "intergenic windows apart", "Experts", "Limits"):
        assert section in text
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page.replace("xlink:href", "href"))
    assert "nan" not in re.findall(r"[a-z]+", text.lower())


def test_same_result_same_bytes(result: dict[str, Any]) -> None:
    assert render_report(result) == render_report(copy.deepcopy(result))


def test_verdicts_follow_the_numbers(result: dict[str, Any]) -> None:
    lines = verdict_lines(result)
    assert lines[0] == "Masked bases: the model beats base composition by 0.038 nats per base [0.036 to 0.039]"
    assert "Masked bases: the model is behind the Markov model by 0.0048 nats per base [0.0037 to 0.0060]" in lines
    assert any(line.startswith("Linear probe: the model is behind k-mer frequencies by 0.036 MCC") for line in lines)


def test_an_interval_with_zero_inside_is_no_win(result: dict[str, Any]) -> None:
    result["masked_loss"]["differences"]["markov"]["all"]["loss"] = {"value": -0.0004, "low": -0.002, "high": 0.001}
    line = next(line for line in verdicts(result) if "Markov" in line["lead"])
    assert line["verdict"] == "even" and "cannot be told apart from the Markov model" in line["lead"]
    assert line["size"] == "difference −0.0004 nats per base"


def test_another_verdict_without_repeats_is_not_kept_quiet(result: dict[str, Any]) -> None:
    differences = result["masked_loss"]["differences"]
    assert not any("without soft-masked" in line for line in verdict_lines(result))
    differences["markov"]["unmasked"]["loss"] = {"value": -0.0026, "low": -0.0038, "high": -0.0014}
    differences["random"]["unmasked"]["loss"] = {"value": 0.02, "low": -0.01, "high": 0.05}
    markov = next(line for line in verdict_lines(result) if "the Markov model" in line)
    assert markov.endswith("; without soft-masked repeats it is ahead by 0.0026 nats [0.0014 to 0.0038]")
    assert "without soft-masked repeats it is ahead" in text_of(render_report(result))
    random = next(line for line in verdict_lines(result) if "random weights" in line)
    assert "the two cannot be told apart, difference +0.020 nats [−0.010 to 0.050]" in random


@pytest.mark.parametrize(
    ("difference", "better_below", "verdict"),
    [
        ((-0.1, -0.2, -0.01), True, "better"),
        ((-0.1, -0.2, -0.01), False, "worse"),
        ((0.1, 0.01, 0.2), True, "worse"),
        ((0.1, 0.01, 0.2), False, "better"),
        ((0.1, -0.01, 0.2), False, "even"),
        ((0.1, None, None), False, "even"),
        ((0.0, 0.0, 0.0), True, "even"),
    ],
)
def test_judgement(difference: tuple[Any, ...], better_below: bool, verdict: str) -> None:
    assert judge(dict(zip(("value", "low", "high"), difference, strict=True)), better_below) == verdict


def test_missing_things_are_said_in_words(result: dict[str, Any]) -> None:
    result["curve"] = {"missing": "This checkpoint lies in no run folder, so there is no record of its training."}
    result["run"] = {"missing": "no run folder"}
    result["probe"] = {"missing": "The corpus has no annotation (GFF3) on its train contigs."}
    result["experts"] = {"missing_all": "The model has no expert layers."}
    loss = result["masked_loss"]
    for table in (loss["rows"], loss["differences"]):
        del table["markov"]
        for row in table.values():
            row["unmasked"] = {"missing": "every hidden base is soft-masked"}
    loss["markov"] = {"missing": "The corpus has no valid windows."}
    result["model"]["moe_layers"] = []
    text = text_of(render_report(result))
    assert "No loss curve. This checkpoint lies in no run folder" in text
    assert "Linear probe: none. The corpus has no annotation" in text
    assert "No probe. The corpus has no annotation" in text
    assert "Experts: none. The model has no expert layers." in text
    assert "No numbers: every hidden base is soft-masked." in text
    assert "No Markov row. The corpus has no valid windows." in text
    assert "Nothing tells on which corpus this checkpoint was trained." in text


def test_one_unit_has_no_interval_and_says_so(result: dict[str, Any]) -> None:
    for table in (result["masked_loss"]["rows"], result["masked_loss"]["differences"]):
        for row in table.values():
            for estimates in row.values():
                for estimate in estimates.values():
                    estimate["low"] = estimate["high"] = None
    text = text_of(render_report(result))
    assert "no interval: one unit only" in text
    assert "difference −0.038 nats per base [no interval: one unit only]" in text


def test_class_without_bases_is_said(result: dict[str, Any]) -> None:
    for layer in result["experts"]["layers"]:
        del layer["share"]["noncoding"]
    result["experts"]["missing"] = {"noncoding": "no such bases in these windows"}
    assert "No noncoding column: no such bases in these windows." in text_of(render_report(result)).replace("­", "")


def test_names_cannot_break_the_page(result: dict[str, Any]) -> None:
    result["model"]["name"] = "<b>&amp;\"'"
    result["corpus"]["assemblies"][0]["species"] = "<script>alert(1)</script>"
    page = render_report(result)
    assert "<script" not in page and "<b>&amp;\"'" not in page
    assert "<script>alert(1)</script>" in text_of(page)


def test_limits_name_a_foreign_corpus(result: dict[str, Any]) -> None:
    assert not any("another corpus" in line for line in limits(result))
    result["run"]["corpus_hash"] = "dead" * 16
    result["corpus"]["n_windows_used"] = 100
    result["model"]["window_bp"] = 32_768
    found = " ".join(limits(result))
    assert "trained on another corpus (deaddeaddead)" in found
    assert "100 of 1,117 held-out windows were drawn at random." in found
    assert "trained on windows of 32,768 bp and is evaluated on windows of 512 bp" in found


def test_many_contigs_are_cut_short(result: dict[str, Any]) -> None:
    result["corpus"]["held_out_contigs"] = [f"scaffold_{i}" for i in range(5000)]
    text = text_of(render_report(result))
    assert "scaffold_5 and 4,994 more" in text and "scaffold_6" not in text


def test_colours_grow_with_preference() -> None:
    assert cell_colour(1.0, 0.1)[0] == "rgb(84, 39, 136)"
    assert cell_colour(0.0, 0.5)[0] == "rgb(179, 88, 6)"
    assert cell_colour(0.0, 0.0)[0] == "#e4e4e0"


def test_heat_map_has_a_cell_for_each_expert_and_class(result: dict[str, Any]) -> None:
    panels = heat_map(result["experts"])
    assert [panel["layer"] for panel in panels] == [1, 3, 5, 7]
    assert all(len(row["cells"]) == 7 for panel in panels for row in panel["rows"])
    share = result["experts"]["layers"][0]["share"]["cds"][0]["value"]
    assert panels[0]["rows"][0]["cells"][0]["share"] == f"{100 * share:.0f}"


def test_strongest_preference_is_the_largest_gap(result: dict[str, Any]) -> None:
    found = strongest_preference(result["experts"])
    gaps = [
        (share["value"] - layer["load"][expert], layer["layer"], expert)
        for layer in result["experts"]["layers"]
        for name in result["experts"]["classes"]
        for expert, share in enumerate(layer["share"][name])
    ]
    assert found is not None and (found["gap"], found["layer"], found["expert"]) == max(gaps)


def test_numbers_are_written_with_care() -> None:
    assert (number(-0.00001, 2), signed(0.0, 3), signed(0.5, 1), signed(-0.5, 1)) == ("0.00", "0.000", "+0.5", "−0.5")
    assert span({"value": 1, "low": -0.25, "high": 0.5}, 2) == "−0.25 to 0.50"


def test_labels_of_the_curve_do_not_overlap() -> None:
    placed = spread([1.0, 1.01, 1.02, 3.0], 0.5)
    assert all(b - a >= 0.5 - 1e-9 for a, b in pairwise(placed))
    assert placed[3] == 3.0 and sum(placed[:3]) == pytest.approx(3.03)


def test_curve_without_validation_or_train_points(result: dict[str, Any]) -> None:
    for kind in ("train", "valid"):
        curve = copy.deepcopy(result["curve"])
        curve[kind] = {"step": [], "loss": []}
        assert "<svg" in str(draw_curve(curve, result["masked_loss"], width_in=4.0))
    assert draw_curve({"missing": "none"}, result["masked_loss"], width_in=4.0) is None
