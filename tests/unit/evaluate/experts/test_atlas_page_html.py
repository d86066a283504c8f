import math
import re
from itertools import pairwise

import numpy as np
import pytest
from atlas_fakes import awkward_atlas, bare_atlas, big_atlas, small_atlas
from html_tree import read_html

from umbel.errors import BackendError
from umbel.evaluate.experts.atlas import SCHEMAS, Atlas, make_table
from umbel.evaluate.experts.page import render_atlas, write_atlas_page
from umbel.evaluate.experts.page.cards import cards
from umbel.evaluate.experts.page.findings import find
from umbel.evaluate.experts.page.paths import flow_colour, information
from umbel.evaluate.experts.page.views import labelling_views, site_views


@pytest.fixture(scope="module")
def small():
    atlas = small_atlas()
    return atlas, render_atlas(atlas)


@pytest.fixture(scope="module")
def big():
    atlas = big_atlas(n_layers=2)
    return atlas, render_atlas(atlas)


@pytest.fixture(scope="module")
def awkward():
    atlas = awkward_atlas()
    return atlas, render_atlas(atlas)


@pytest.fixture(scope="module")
def bare():
    atlas = bare_atlas()
    return atlas, render_atlas(atlas)


ALL = ("small", "big", "awkward", "bare")


def replaced(atlas, table, change):
    """The atlas with each row of a table put through ``change``; None leaves a row out."""
    rows = [row for row in map(change, atlas.rows(table)) if row is not None]
    columns = {name: [row[name] for row in rows] for name in SCHEMAS[table].names}
    return Atlas(atlas.facts, atlas.tables | {table: make_table(table, columns)})


def plus(value, digits):
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")


def findings(page):
    """Sign and words of each sentence of the summary."""
    lines = read_html(page).one("ul", "findings").all("li")
    return [(line.one("span", "sign").text, line.children[-1].words().removesuffix(" show")) for line in lines]


def about(page, subject):
    ((sign, words),) = [(sign, words) for sign, words in findings(page) if words.startswith(f"{subject}:")]
    return sign, words


def heat_tables(root, site):
    """For each labelling of a router: its column names, and expert to cells."""
    found = {}
    for table in root.one("section", id=f"site-{site}").all("table", "heat"):
        if {"matrix", "square"} & set(table.css):
            continue
        name = table.one("caption").children[0]
        columns = [th.children[0] for th in table.one("thead").all("th")[1:]]
        found[name] = columns, {int(tr.one("th").text): tr.all("td") for tr in table.one("tbody").all("tr")}
    return found


@pytest.mark.parametrize("name", ALL)
def test_page_is_whole_and_needs_nothing_else(name, request):
    _, page = request.getfixturevalue(name)
    root = read_html(page)
    ids = [node.attributes["id"] for node in root.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in root.walk():
        for key in ("src", "href", "xlink:href", "action", "data"):
            target = node.attributes.get(key, "#")
            assert not re.match(r"[a-z]+:|//", target) or target.startswith("data:image/png;base64,")
        if node.tag == "label" or (target := node.attributes.get("xlink:href", node.attributes.get("href", ""))):
            wanted = node.attributes.get("for") or target
            if node.tag == "label" or wanted.startswith("#"):
                assert wanted.lstrip("#") in ids
    assert not re.search(r"@import|url\((?!#)|<script|<iframe", page)
    assert all(
        svg.attributes.get("aria-label") or "aria-hidden" in svg.attributes for svg in root.all("svg") if svg.css
    )
    assert all(f.attributes.get("aria-label") or f.all("svg")[0].attributes["aria-label"] for f in root.all("figure"))
    assert all(table.all("caption") for table in root.all("table") if table.all("th"))
    assert "<mixture>" not in page and "toy <mixture> & more" in root.words()
    assert "nan" not in root.words().lower().split() and "None" not in root.words()


def test_two_renders_give_the_same_bytes(small, awkward, tmp_path):
    assert render_atlas(small_atlas()) == small[1] and render_atlas(awkward_atlas()) == awkward[1]
    small[0].save(tmp_path)
    path = write_atlas_page(Atlas.load(tmp_path), tmp_path)
    assert path == tmp_path / "atlas.html" and path.read_text(encoding="utf-8") == small[1]


@pytest.mark.parametrize("name", ["small", "big", "awkward"])
def test_heat_maps_have_the_numbers_of_the_table(name, request):
    atlas, page = request.getfixturevalue(name)
    root = read_html(page)
    layers = {row["site"]: row for row in atlas.rows("layers")}
    experts = {(row["site"], row["expert"]): row for row in atlas.rows("experts")}
    n_seen = 0
    for site, layer in layers.items():
        tables = heat_tables(root, site)
        rows = {(r["labelling"], r["class"], r["expert"]): r for r in atlas.rows("enrichment") if r["site"] == site}
        assert set(tables) == {labelling for labelling, _, _ in rows}
        for labelling, (columns, cells) in tables.items():
            assert columns[-2:] == ["load", "ablation"] and list(cells) == list(range(layer["n_experts"]))
            for expert, row_cells in cells.items():
                told = experts[site, expert]
                assert row_cells[-2].text == ("dead" if told["is_dead"] else row_cells[-2].text)
                if not told["is_dead"]:
                    assert float(row_cells[-2].text) == pytest.approx(100 * told["load"], rel=0.06)
                wanted = "–" if told["ablation"] is None else plus(told["ablation"], 4)
                assert row_cells[-1].text == wanted
                for column, cell in zip(columns[:-2], row_cells[:-2], strict=True):
                    row = rows.get((labelling, column, expert))
                    n_seen += row is not None
                    if row is None or told["is_dead"]:
                        assert cell.css == ["x"] and cell.text == ""
                    elif row["n_class"] < 20 * layer["n_experts"]:
                        assert cell.css == ["x"] and cell.text == "–" and "not enough items" in cell.attributes["title"]
                    else:
                        star = row["q"] < 0.05
                        assert cell.text == plus(row["log2_odds"], 1) + "*" * star and ("q" in cell.css) == star
                        if row["low"] is not None:
                            interval = f"[{plus(row['low'], 2)} to {plus(row['high'], 2)}]"
                            assert (
                                f"{plus(row['log2_odds'], 2)} {interval} q {row['q']:.3f}" == cell.attributes["title"]
                            )
                        shade = 20 + 10 * max(-2.0, min(2.0, row["log2_odds"]))
                        assert abs(int(cell.css[0][1:]) - shade) <= 0.5 + 1e-9
    assert n_seen == atlas.tables["enrichment"].num_rows


def test_shades_are_violet_above_and_brown_below(small):
    colours = dict(re.findall(r"\.(s\d+)\{background:rgb\(([\d,]+)\)", small[1]))
    assert len(colours) == 41
    red, green, blue = (np.array([int(colours[f"s{i}"].split(",")[c]) for i in range(41)]) for c in range(3))
    assert (red[:20] > blue[:20]).all() and (blue[22:] > red[22:]).all() and red[20] == green[20] == 250
    lightness = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (np.diff(lightness[:21]) > 0).all() and (np.diff(lightness[20:]) < 0).all()


def test_bars_are_as_high_as_loads(small):
    atlas, page = small
    for site in (0, 1):
        svg = read_html(page).one("section", id=f"site-{site}").one("svg", "loads")
        rows = [row for row in atlas.rows("experts") if row["site"] == site]
        bars = [float(bar.attributes["height"]) for bar in svg.all("rect")]
        foot = {float(bar.attributes["y"]) + float(bar.attributes["height"]) for bar in svg.all("rect")}
        assert max(foot) - min(foot) < 0.11
        loads = [row["load"] for row in rows if not row["is_dead"]]
        bound, even = (
            float(svg.one("path", css).attributes["d"].split()[1].split("H")[0]) for css in ("bound", "even")
        )
        per_share = (max(foot) - bound) / 0.5
        assert [bar / per_share for bar in bars] == pytest.approx(loads, abs=0.001)
        assert (max(foot) - even) / per_share == pytest.approx(0.25, abs=0.001)
        assert len(svg.all("text", "dead")) == sum(row["is_dead"] for row in rows) == (1 if site == 0 else 0)
        assert len(svg.all("rect", "starving")) == sum(row["is_starving"] for row in rows) == (0 if site == 0 else 1)
        for row, line in zip([r for r in rows if not r["is_dead"]], svg.all("path", "whisker"), strict=True):
            low, high = (float(v) for v in line.attributes["d"].split()[1].split("V"))
            assert (max(foot) - low) / per_share == pytest.approx(row["load_low"], abs=0.001)
            assert (max(foot) - high) / per_share == pytest.approx(min(row["load_high"], 0.52), abs=0.001)


def test_matrices_have_divergence_below_and_floor_above(small):
    atlas, page = small
    for site in (0, 1):
        section = read_html(page).one("section", id=f"site-{site}")
        for table in section.all("table", "matrix"):
            labelling = table.one("caption").children[0]
            names = [th.text for th in table.one("thead").all("th")[1:]]
            cells = [tr.all("td") for tr in table.one("tbody").all("tr")]
            rows = {
                (r["class_a"], r["class_b"]): r
                for r in atlas.rows("divergence")
                if r["site"] == site and r["labelling"] == labelling
            }
            for (a, b), row in rows.items():
                i, j = names.index(a), names.index(b)
                below, above = cells[max(i, j)][min(i, j)], cells[min(i, j)][max(i, j)]
                digits = 3 if row["js"] >= 0.00995 else 4
                assert below.text == ("< 0.0001" if row["js"] < 0.00005 else f"{row['js']:.{digits}f}")
                assert above.text == f"{row['floor']:.4f}" and "f" in above.css
                assert ("q" in below.css) == (row["js_low"] > row["floor"])
                depth = 20 * math.sqrt(row["js"] / math.log(2))
                assert abs(int(below.css[0][1:]) - depth) <= 0.5 + 1e-9
                assert f"{row['js_share'] * 100:.0f} % of ln 2" in below.attributes["title"] or row["js_share"] < 0.0995
                assert f"{row['js_bits']:.4f} bits" in below.attributes["title"]
            n_above = sum(row["js_low"] > row["floor"] for row in rows.values())
            assert f"{n_above} of {len(rows)} pairs above their floor" in table.one("caption").text


def test_pairs_have_the_numbers_of_the_table(small):
    atlas, page = small
    for site in (0, 1):
        table = read_html(page).one("section", id=f"site-{site}").one("table", "square")
        cells = [tr.all("td") for tr in table.one("tbody").all("tr")]
        for row in atlas.rows("coactivation"):
            if row["site"] != site:
                continue
            cell = cells[row["expert_a"]][row["expert_b"]]
            if row["lift"] is None:
                assert cell.text == "–"
            else:
                assert float(cell.text) == pytest.approx(100 * row["observed"], rel=0.06, abs=0.006)
                assert f"{row['lift']:.2f} times" in cell.attributes["title"]


def test_flows_are_as_wide_as_their_counts(small):
    atlas, page = small
    svg = read_html(page).one("section", id="site-1").one("svg", "sankey")
    counts = {(r["expert_before"], r["expert"]): r["n"] for r in atlas.rows("paths") if r["n"]}
    total = sum(counts.values())
    widths, tops = {}, {}
    for path in svg.all("path"):
        title = path.one("title").text
        a, b = map(int, re.match(r"(\d+) to (\d+):", title).groups())
        widths[a, b] = float(re.search(r"v([\d.]+)C", path.attributes["d"])[1])
        tops[a, b] = float(re.match(r"M\S+ ([\d.]+)C", path.attributes["d"])[1])
        loads = [sum(n for pair, n in counts.items() if pair[k] == (a, b)[k]) / total for k in (0, 1)]
        lift = counts[a, b] / total / (loads[0] * loads[1])
        assert f"{lift:.2f} times what the loads give" in title and path.attributes["fill"] == flow_colour(lift)
    assert widths.keys() == counts.keys()
    # 260 units, less three gaps of 5.
    assert widths == pytest.approx({pair: 245 * n / total for pair, n in counts.items()}, abs=0.006)
    for a in range(4):
        inside = sorted((tops[pair], widths[pair]) for pair in widths if pair[0] == a)
        for (top, width), (below, _) in pairwise(inside):
            assert below == pytest.approx(top + width, abs=0.15)


def test_information_of_paths_follows_the_definition():
    flows = np.random.default_rng(0).integers(0, 50, (3, 5))
    n = flows.sum()
    told = 0.0
    for a in range(3):
        for b in range(5):
            if flows[a, b]:
                told += flows[a, b] / n * math.log(flows[a, b] * n / (flows[a].sum() * flows[:, b].sum()))
    entropies = [-sum(x / n * math.log(x / n) for x in flows.sum(axis=axis)) for axis in (0, 1)]
    assert information(flows) == pytest.approx((told, told / min(entropies)))
    assert information(np.array([[3, 4]])) == (0.0, None)


def test_summary_counts_what_the_tables_hold(small):
    atlas, page = small
    sign, words = about(page, "Recorded")
    assert words == (
        "Recorded: 200,000 bases in 60 stretches and 24 units of like sequence, worth 17.4 independent ones; "
        "2 routers: layers 1 and 3 (4 experts, top-2, softmax scores); float32, not quantised."
    )
    assert about(page, "Dead") == ("▼", "Dead: 1 of 8 experts takes no base at all (expert 1 of layer 1).")
    assert about(page, "Starving")[1].endswith("takes less than a twentieth of an even share (expert 1 of layer 3).")
    for labelling in ("region", "codon phase"):
        rows = [r for r in atlas.rows("enrichment") if r["labelling"] == labelling and r["log2_odds"] is not None]
        marked = [r for r in rows if r["q"] < 0.05]
        sign, words = about(page, f"Enrichment, {labelling}")
        if marked:
            assert sign == "▲" and f"{len(marked)} of {len(rows)} pairs" in words
            best = max((r for r in marked if r["log2_odds"] > 0), key=lambda r: r["low"])
            place = f"expert {best['expert']} of layer {best['layer']} for {best['class']}"
            assert f"{place} (log2 odds {plus(best['log2_odds'], 2)} [" in words.split(";")[1]
        else:
            none = f"none of {len(rows)} pairs of expert and class survives a false discovery rate of 5 %."
            assert sign == "≈" and words.endswith(none)
        rows = [r for r in atlas.rows("information") if r["labelling"] == labelling]
        above = sum(r["mi_low"] > r["chance"] for r in rows)
        sign, words = about(page, f"Specialisation, {labelling}")
        best = max(rows, key=lambda r: r["mi"])
        assert sign == ("▲" if above else "≈") and f"largest in layer {best['layer']}" in words
        assert ("above chance in all 2 layers" if above == 2 else "in no layer above") in words
        shares = sorted(r["context_6mer"] for r in rows)
        explained = about(page, f"Explained, {labelling}")[1]
        assert f"its 6-mer alone {100 * shares[0]:.0f} to {100 * shares[1]:.0f} %" in explained
    assert {about(page, f"Enrichment, {each}")[0] for each in ("region", "codon phase")} == {"▲", "≈"}
    rows = atlas.rows("experts")
    best = max(rows, key=lambda r: r["ablation"])
    words = about(page, "Importance")[1]
    assert f"above 0 for {sum(r['ablation_low'] > 0 for r in rows)} of 8 experts" in words
    assert (
        f"expert {best['expert']} of layer {best['layer']}, {plus(best['ablation'], 4)} nats per hidden base" in words
    )
    assert ("–", "Note: 2 stretches of less than 200 bases were left out.") in findings(page)


def said(atlas, subject):
    (finding,) = (f for f in find(atlas, site_views(atlas), labelling_views(atlas)) if f.about == subject)
    return finding


def test_summary_follows_the_numbers(small):
    atlas, _ = small
    null = replaced(atlas, "enrichment", lambda row: row | {"q": 1.0})
    assert said(null, "Enrichment, region").verdict == "even"

    def lower(row):
        return row | {"q": 0.01, "log2_odds": None if row["log2_odds"] is None else -1.0}

    below = said(replaced(atlas, "enrichment", lower), "Enrichment, region")
    assert below.verdict == "more" and below.text.endswith("all of them below even.")
    floored = replaced(atlas, "information", lambda row: row | {"chance": row["mi_low"] if row["site"] else 0.0})
    finding = said(floored, "Specialisation, region")
    assert finding.verdict == "more" and "above chance in 1 of 2 layers" in finding.text
    thin = replaced(atlas, "layers", lambda row: row | {"is_enough": row["site"] != 0})
    assert said(thin, "Loads").text == "too few bases to call an expert dead (N < 20 E/k): layer 1."
    known = replaced(atlas, "information", lambda row: row | {"context_6mer": 0.97})
    explained = said(known, "Explained, region").text
    assert "its 6-mer alone 97 % of the divergence" in explained
    assert explained.endswith("little is left that needs more context.")
    plain = replaced(atlas, "enrichment", lambda row: row | {"q": 1.0})
    assert said(plain, "Importance").text.endswith("which is enriched in no class.")


def test_cards_tell_of_each_expert(small):
    atlas, page = small
    for site in (0, 1):
        cards = read_html(page).one("section", id=f"site-{site}").all("article")
        assert len(cards) == 4
        for expert, card in enumerate(cards):
            words = card.words()
            (row,) = (r for r in atlas.rows("experts") if (r["site"], r["expert"]) == (site, expert))
            if row["is_dead"]:
                assert words == f"Expert {expert} dead"
                continue
            assert ("starving" in words) == row["is_starving"]
            marked = [
                r for r in atlas.rows("enrichment") if (r["site"], r["expert"]) == (site, expert) and r["q"] < 0.05
            ]
            for r in marked:
                told = f"{r['class']} {r['labelling']}, {plus(r['log2_odds'], 2)} [{plus(r['low'], 2)}"
                heading = "more of" if r["log2_odds"] > 0 else "less of"
                assert told in words and words.index(heading) < words.index(told)
            ablated = [r for r in atlas.rows("ablation") if (r["site"], r["expert"]) == (site, expert)]
            for r in sorted(ablated, key=lambda r: -r["delta"])[:5]:
                assert f"{plus(r['delta'], 4)} {r['class']} {r['labelling']}, [" in words
            places = [code.text for code in card.all("code")]
            windows = [r for r in atlas.rows("top_windows") if (r["site"], r["expert"]) == (site, expert)]
            assert places == [f"chr1:{r['start'] + 1}-{r['end']}" for r in sorted(windows, key=lambda r: r["rank"])]


def test_tracks_and_tables_are_linked(small):
    links = {a.text: a.attributes["href"] for a in read_html(small[1]).all("a")}
    assert links["tracks/layer 1.bw"] == "tracks/layer%201.bw" and links["igv.html"] == "igv.html"
    assert {f"tables/{name}.csv" for name in SCHEMAS} <= set(links.values())
    assert "No tracks were written along a genome." not in small[1]


def test_many_experts_fit(big):
    atlas, page = big
    root = read_html(page)
    assert len(root.all("article")) == 2 * 64 <= 240
    assert len(root.all("svg", "sankey")) == 1 and not root.all("table", "square")
    assert "Drawn are the 120 strongest of" in root.words()
    image = "data:image/png;base64,"
    assert sum(node.attributes.get("xlink:href", "").startswith(image) for node in root.all("image")) >= 2
    flows = np.zeros((64, 64))
    for row in atlas.rows("paths"):
        if row["site"] == 1:
            flows[row["expert_before"], row["expert"]] += row["n"]
    told = float(re.search(r"which carry ([\d.]+) % of", root.one("section", id="site-1").words())[1])
    assert told == pytest.approx(100 * np.sort(flows.ravel())[-120:].sum() / flows.sum(), abs=0.51)
    taken = {row["expert"]: row["n_choices"] for row in atlas.rows("experts") if row["site"] == 0}
    above = [
        row["lift"]
        for row in atlas.rows("coactivation")
        if row["site"] == 0
        and row["expert_a"] < row["expert_b"]
        and row["lift"] is not None
        and row["expected"] * taken[row["expert_a"]] >= 100
    ]
    assert f"({max(above):.2f} times)" in root.one("section", id="site-0").words()
    # Of 10 MB a layer of 30 may have a third of one, and here each has 15 times as many cards as there.
    assert len(page.encode()) < 2 * 700_000


def test_only_the_strongest_of_many_have_cards(big):
    atlas, _ = big
    for view in site_views(atlas):
        best = {}
        for r in atlas.rows("enrichment"):
            if r["site"] == view.site and r["log2_odds"] is not None and r["q"] < 0.05:
                best[r["expert"]] = max(best.get(r["expert"], -math.inf), r["low"])
        chosen = [card.expert for card in cards(view, n_sites=24, is_dna=True)]
        assert chosen == sorted(sorted(best, key=best.get)[-10:])
        assert len(cards(view, n_sites=1_000, is_dna=True)) == 4


def test_the_page_says_which_experts_have_cards(small, monkeypatch):
    monkeypatch.setattr("umbel.evaluate.experts.page.cards.MAX_CARDS", 4)
    monkeypatch.setattr("umbel.evaluate.experts.page.cards._MIN_CARDS", 1)
    root = read_html(render_atlas(small[0]))
    assert [len(root.one("section", id=f"site-{site}").all("article")) for site in (0, 1)] == [2, 2]
    assert root.words().count("The 2 of 4 experts with the strongest enrichment") == 2


def test_what_is_missing_is_said(awkward, bare):
    _, page = awkward
    root = read_html(page)
    words = root.words()
    assert about(page, "Recorded")[1] == (
        "Recorded: 900 tokens in 3 stretches and 1 unit of like sequence, worth an unknown number of independent ones; "
        "1 router: layer 1 (6 experts, top-1, scores not known); float32, not quantised."
    )
    missing = about(page, "Not here")[1]
    for sentence in (
        "No token is of task <x> never seen.",
        "No expert was knocked out, so that nothing here says how important any of them is.",
        "Without scores of the router there is no entropy or margin: layer 1.",
        "There are no sequence logos",
    ):
        assert sentence in missing
    assert (
        "without interval or moved labels, nothing tells it from chance" in about(page, "Specialisation, task <x>")[1]
    )
    assert about(page, "Enrichment, task <x>")[0] == "≈"
    assert not root.all("svg", "sankey") and not root.all("svg", "logo") and not root.all("table", "square")
    assert "How much of it context alone explains is not known" in words and "doc <7>, " in words
    assert "No tracks were written along a genome." in words
    _, page = bare
    assert "No base was labelled, so that nothing here says what experts are for." in about(page, "Not here")[1]
    assert "Which expert follows which was not counted. " in about(page, "Not here")[1]
    assert ("–", "Note: No annotation was given.") in findings(page)
    assert "Nothing was labelled, so that there are no classes to compare." in read_html(page).words()


def test_class_names_are_text_even_in_figures(small):
    atlas, _ = small
    strange = '$x_1$ <b> & "q"'

    def rename(row):
        return {key: strange if value == "intron" else value for key, value in row.items()}

    for table in ("enrichment", "divergence", "ablation"):
        atlas = replaced(atlas, table, rename)
    told = [{"name": "region", "level": "base", "classes": ["CDS", strange, "intergenic", "UTR"]}]
    root = read_html(render_atlas(Atlas(atlas.facts | {"labellings": told}, atlas.tables)))
    assert root.words().count(strange) > 10
    assert any(strange in text.text for text in root.all("figure", "curve")[1].all("text"))


def test_two_routers_of_one_layer_are_told_apart(small):
    atlas = replaced(small[0], "layers", lambda row: row | {"layer": 7})
    titles = [h.children[0].strip() for h in read_html(render_atlas(atlas)).all("h3", "title")]
    assert titles == ["Layer 7, layers.1.moe", "Layer 7, layers.3.moe"]


def test_page_without_its_packages_says_what_to_install(small, monkeypatch):
    monkeypatch.setattr("umbel.extras.find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(BackendError, match=r"the page of an atlas needs jinja2: pip install 'umbel\[train\]'"):
        render_atlas(small[0])
