import copy
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bench_fakes import N_TEST, result

from umbel.errors import RunError
from umbel.evaluate.bench.compute_figure import Panel, Point, draw, panels, published_panel
from umbel.evaluate.bench.leaderboard import gather
from umbel.evaluate.bench.markdown import escape, render_markdown
from umbel.evaluate.bench.page import render_page, write_pages
from umbel.evaluate.bench.reading import gaps, how_to_read
from umbel.evaluate.bench.wording import BASELINES, ROW_NAMES, metric_name
from umbel.evaluate.suites.published import published

SOME = ["H3K27ac", "H3K27me3", "H3K4me3", "promoter_strength.leaf", "core_promoters"]
VOID = {"meta", "br", "img", "link", "hr", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """Checks that elements close in order; collects the text, and tables by class as lists of rows of cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tables: list[tuple[str, list[tuple[str, list[str]]]]] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        told = dict(attrs)
        if tag == "table":
            self.tables.append((told["class"], []))
        elif tag == "tr":
            self.tables[-1][1].append((told.get("class") or "", []))
        elif tag in ("td", "th"):
            self.tables[-1][1][-1][1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
            if "td" in self.open or "th" in self.open:
                cells = self.tables[-1][1][-1][1]
                cells[-1] = " ".join(f"{cells[-1]} {data}".split())

    def rows(self, kind: str) -> Iterator[tuple[str, list[str]]]:
        for name, rows in self.tables:
            if kind in name.split():
                yield from rows


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return result(SOME, max_train=500)


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> Page:
    return Page(render_page(gather([found])))


def shown(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def test_every_number_of_the_datasets_is_that_of_the_result(found: dict[str, Any], page: Page) -> None:
    told = {cells[0].split()[0]: cells[1:] for kind, cells in page.rows("datasets") if cells[0].startswith(tuple(SOME))}
    assert list(told) == [name for name in found["suite"]["datasets"] if name in SOME]
    for name, cells in told.items():
        data = found["datasets"][name]
        for row, cell in zip(("model", *BASELINES), cells, strict=True):
            estimate = data["rows"][row]["metrics"][data["metric"]]
            spread = f"sd {shown(estimate['sd'])}, 3 seeds" if row in ("model", "random", "cnn") else "one fit"
            expected = f"{shown(estimate['value'])} {shown(estimate['low'])} to {shown(estimate['high'])} {spread}"
            assert cell.startswith(expected)
            assert cell.endswith(("model better", "model worse", "not told apart")) == (row != "model")


def test_every_difference_and_metric_is_that_of_the_result(found: dict[str, Any], page: Page) -> None:
    tables = [rows for kind, rows in page.tables if "rows" in kind.split()]
    metrics = [rows for kind, rows in page.tables if "metrics" in kind.split()]
    names = [name for name in found["suite"]["datasets"] if name in SOME]
    for name, rows, all_metrics in zip(names, tables, metrics, strict=True):
        data = found["datasets"][name]
        for row, (_, cells) in zip(BASELINES, rows[2:6], strict=True):
            difference = data["differences"][row]
            assert cells[0].startswith(ROW_NAMES[row])
            digits = 4 if abs(difference["value"]) < 0.01 else 3
            low, high = (f"{difference[end]:.{digits}f}".replace("-", "−") for end in ("low", "high"))
            assert f"[{low} to {high}], p = {difference['p_holm']:.3f}" in cells[4]
        by_name = {cells[0].removesuffix(" the suite's"): cells[1:] for _, cells in all_metrics[1:]}
        assert set(by_name) == {metric_name(metric) for metric in data["rows"]["model"]["metrics"]}
        for metric, estimate in data["rows"]["kmer"]["metrics"].items():
            cell = by_name[metric_name(metric)][3]
            assert cell.split()[0] == ("not" if estimate["value"] is None else shown(estimate["value"]))


def test_means_stand_for_whole_tasks_and_the_rest_is_said_to_be_missing(found: dict[str, Any], page: Page) -> None:
    told = {cells[0].split(" MCC")[0]: cells[1:] for kind, cells in page.rows("means") if kind != "cited"}
    assert list(told) == ["Task", "histone modification", "core promoter"]
    values = [found["datasets"][name]["rows"]["model"]["metrics"]["mcc"]["value"] for name in SOME[:3]]
    assert told["histone modification"][0].split()[0] == shown(sum(values) / 3)
    assert (
        "No mean over promoter strength: 1 of 2 datasets was not run (promoter_strength.protoplast)." in page.text
        and "No mean over all datasets: 26 of 31 datasets were not run" in page.text
    )


def test_published_numbers_are_marked_and_never_bold(page: Page) -> None:
    cited = [cells for kind, cells in page.rows("means") if kind == "cited"]
    assert len(cited) == 2 and all(cells[0].startswith("published, not run here") for cells in cited)
    for row in published("mpgb"):
        if row.group in ("histone_modification", "core_promoter") and not row.dataset:
            assert any(f"{row.model} {row.value:.3f} 1" in cells[0] for cells in cited)
    rows = [cells for kind, cells in page.rows("rows") if kind == "cited"]
    assert rows and all(cells[-1] == "published, not run here" for cells in rows)
    for row in published("pdllm"):
        if row.dataset == "H3K27ac":
            assert [f"{row.model} 4", f"{row.value:.3f} F1", "published, not run here"] in rows
    assert ["AgroNT, Zea mays only 2", "0.750", "published, not run here"] in rows
    # Only rows and cells of models that were run are set in bold.
    assert not [kind for kind, _ in page.rows("rows") if "cited" in kind and "model" in kind]
    assert "third party's summary" in page.text and "one seed" in page.text.lower()
    assert "the checkpoint was chosen on test" in page.text


def test_every_baseline_and_every_warning_is_on_both_pages(found: dict[str, Any], page: Page) -> None:
    markdown = render_markdown(gather([found]))
    for text in (page.text, markdown):
        for name in ROW_NAMES.values():
            assert (name if name != "model" else "toy") in text
        assert "Test is whole" in text and "at most 500" in text
        assert "2 examples have an exact copy in train" in text
        assert "CC-BY-NC-SA-4.0" in text and "0.7.0+0123456789ab" in text
        assert "seeds" in text.lower() and "0, 1, 2" in text
    copied = [cells for _, cells in page.rows("copies")][1:]
    assert copied[0][1:] == ["2 33.3 % of test", "2 33.3 % of test", "0"] and len(copied) == 5


def test_the_markdown_has_the_same_numbers(found: dict[str, Any]) -> None:
    text = render_markdown(gather([found]))
    tables = [
        [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in block.splitlines()]
        for block in text.split("\n\n")
        if block.startswith("|")
    ]
    assert all(len({len(line) for line in table}) == 1 for table in tables)
    (first, *_) = (table for table in tables if table[0][0].strip() == "Dataset")
    rows = {line[0].strip().replace("\\", ""): line for line in first}
    for name in SOME:
        data = found["datasets"][name]
        for row, cell in zip(("model", *BASELINES), rows[name][2:], strict=False):
            estimate = data["rows"][row]["metrics"][data["metric"]]
            assert cell.strip().startswith(
                f"{shown(estimate['value'])} ({shown(estimate['low'])} to {shown(estimate['high'])}; "
            )
        if name == SOME[-1]:
            break
        assert f"### {escape(name)}" in text
    cited = next(table for table in tables if table[0][-1].strip() == "How")
    assert all(line[-1].strip() == "published, not run here" for line in cited[2:])
    assert any(line[4].strip() == "1.7e+18" for line in cited)


def test_names_are_text_and_never_markup() -> None:
    name = "<script>alert(1)</script> a|b *c*"
    found = copy.deepcopy(result(["core_promoters"], name=name))
    found["datasets"]["core_promoters"]["notes"] = ["<b>note</b> | [link](x)"]
    found["suite"]["title"] = "A & B <i>"
    text = render_page(gather([found]))
    page = Page(text)
    assert "<script" not in text and "<i>" not in text and "<b>note" not in text
    assert name in page.text and "A & B <i>" in page.text
    markdown = render_markdown(gather([found]))
    assert r"\<script\>alert(1)\</script\> a\|b \*c\*" in markdown and "<script" not in markdown.replace("\\<", "")
    assert r"\<b\>note\</b\> \| \[link\](x)" in markdown
    assert escape("a\nb  c") == "a b c"


def test_collapsed_and_repeated_seeds_are_flagged() -> None:
    found = copy.deepcopy(result(["H3K27ac", "H3K27me3", "H3K4me3"]))
    model = found["datasets"]["H3K27ac"]["rows"]["model"]
    model["collapsed"][1] = "MCC is 0.003"
    model["facts"][2]["collapsed_tries"] = [{"lr": 3e-4, "why": "constant"}]
    page = Page(render_page(gather([found])))
    cell = next(cells[1] for _, cells in page.rows("datasets") if cells[0].startswith("H3K27ac"))
    assert "⚠ 1 of 3 collapsed: MCC is 0.003" in cell
    assert "learning rate 0.0003" in page.text and "chosen on dev: k 5" in page.text
    assert "⚠ 1 of 3 collapsed on dev at first and were tried again at a lower learning rate" in cell
    mean = next(cells[1] for _, cells in page.rows("means") if cells[0].startswith("histone"))
    assert "⚠ trouble in H3K27ac, see there" in mean
    # A majority is constant by design.
    assert found["datasets"]["H3K27ac"]["rows"]["majority"]["collapsed"] != [None]
    assert page.text.count("⚠") == 5
    assert "⚠ 1 of 3 collapsed: MCC is 0.003" in render_markdown(gather([found]))


def test_an_undefined_metric_is_said_in_words() -> None:
    found = copy.deepcopy(result(["core_promoters"]))
    data = found["datasets"]["core_promoters"]
    data["rows"]["model"]["metrics"]["mcc"] |= {"value": None, "low": None, "high": None, "sd": None}
    for difference in data["differences"].values():
        difference |= {"value": None, "low": None, "high": None, "p": None, "p_holm": None}
    board = gather([found])
    page = Page(render_page(board))
    assert "could not be tested against" in page.text and "not tested on 1 dataset" in page.text
    assert "None" not in page.text and "nan" not in re.findall("[a-z]+", page.text.lower())
    assert "None" not in render_markdown(board)
    assert [point.label for point in panels(board, {"core_promoters": "MCC", "core_promoter": "MCC"})[0].points] == [
        "random",
        "CNN",
        "k-mer",
        "majority",
    ]


def test_several_models_stand_side_by_side() -> None:
    a = result(SOME, name="a")
    b = result(SOME[:3], name="b", method="probe", shares={"model": 0.6, "random": 0.6}, max_train=100)
    for data in b["datasets"].values():
        data["data"]["copies"] = copy.deepcopy(data["data"]["copies"])
        data["data"]["copies"]["within"]["train"]["repeats"] = 7
    page = Page(render_page(gather([a, b])))
    head, *rows = [cells for kind, cells in page.rows("datasets") if kind != "cited" and len(cells) > 1]
    random = ROW_NAMES["random"]
    assert head[:3] == ["Dataset", "A · a, adapter", "B · b, probe"]
    assert head[3:5] == [f"{random} (beside A)", f"{random} (beside B)"]
    assert next(cells for cells in rows if cells[0].startswith("core_promoters"))[2] == "not run"
    histone = next(cells for cells in rows if cells[0].startswith("H3K27ac"))
    assert histone[5].endswith("not told apart: A worse: B")
    assert "Models are tested against their baselines, not against each other" in page.text
    assert "A: train 1,000, dev 100, test 120 examples" in page.text
    assert "B: train 100 of 1,000, dev 25 of 100, test 120 examples" in page.text
    assert "No mean over core promoter of B: 1 of 1 dataset was not run (core_promoters)." in page.text
    assert "Copies, B: train: 7 exact repeats" in page.text


def test_too_few_draws_for_any_difference_are_told() -> None:
    lines = how_to_read(gather([result(["core_promoters"], n_draws=100)]))
    assert any(line.startswith("With 100 draws the smallest adjusted p can be 0.079") for line in lines)
    assert not any("smallest adjusted p" in line for line in how_to_read(gather([result(["core_promoters"])])))
    assert gaps(gather([result(["core_promoters"])])) == [
        "No mean over all datasets: 30 of 31 datasets were not run (poly_a.arabidopsis_thaliana, "
        "poly_a.oryza_sativa_indica_group, poly_a.trifolium_pratense, poly_a.medicago_truncatula, "
        "poly_a.chlamydomonas_reinhardtii, poly_a.oryza_sativa_japonica_group, splicing.arabidopsis_thaliana_donor, "
        "splicing.arabidopsis_thaliana_acceptor and 22 more)."
    ]


def test_the_plot_has_a_point_for_every_row(found: dict[str, Any]) -> None:
    board = gather([found])
    names = {each.name: "MCC" for each in (*board.groups, *board.datasets, board.overall)}
    histone, core = panels(board, names)
    assert histone.title == "histone modification" and core.title == "core promoter"
    assert [point.label for point in histone.points] == ["model", "random", "CNN", "k-mer", "majority"]
    assert [point.flops for point in histone.points] == [9e15, 9e15, 0, 0, 0]
    elsewhere = published_panel(board)
    assert elsewhere is not None and len(elsewhere.points) == 7 and elsewhere.is_published
    assert next(point.flops for point in elsewhere.points if point.label == "PlantBiMoE") == 1698e15
    svg = str(draw(histone, "x"))
    assert svg == str(draw(histone, "x"))
    for label in ("model", "random", "CNN", "k-mer", "not counted", "FLOP of fine-tuning"):
        assert f">{label}</text>" in svg


def test_labels_of_a_crowded_plot_do_not_cover_each_other() -> None:
    points = tuple(Point(f"row {i}", "kmer", 10.0 ** (15 + 0.02 * i), 0.8 + 0.001 * i) for i in range(6))
    svg = str(draw(Panel("crowded", "MCC", points), "crowded"))
    spots = [
        (float(x), float(y)) for x, y in re.findall(r'<text[^>]* x="([-\d.]+)" y="([-\d.]+)"[^>]*>row \d</text>', svg)
    ]
    assert len(spots) == 6
    for i, (x, y) in enumerate(spots):
        for other_x, other_y in spots[i + 1 :]:
            assert abs(y - other_y) > 8 or abs(x - other_x) > 25


def test_probes_alone_have_no_plot_and_say_so() -> None:
    found = result(["core_promoters"], method="probe", flops={"model": 0.0, "random": 0.0})
    text = Page(render_page(gather([found]))).text
    assert "Nothing was fine-tuned, so there is no compute of ours to draw" in text


def test_files_are_written_whole_and_the_same_each_time(tmp_path: Path, found: dict[str, Any]) -> None:
    files = write_pages([found], tmp_path / "new")
    assert [file.name for file in files] == ["leaderboard.html", "leaderboard.md"]
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write_pages([copy.deepcopy(found)], tmp_path / "new")] == before
    broken = copy.deepcopy(found)
    del broken["datasets"]["H3K27ac"]["rows"]["cnn"]
    with pytest.raises(RunError):
        write_pages([broken], tmp_path / "new")
    assert [file.read_bytes() for file in files] == before
    assert len(list((tmp_path / "new").iterdir())) == 2
    page = before[0].decode()
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page.replace("xlink:href", "href"))
    assert str(N_TEST) in page
