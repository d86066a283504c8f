import csv
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from atlas_fakes import awkward_atlas, small_atlas

from umbel.errors import RunError
from umbel.evaluate.experts.atlas import SCHEMAS, Atlas, empty_table, make_table


@pytest.fixture(scope="module")
def atlas():
    return small_atlas()


def changed(atlas, table, column, change):
    """The atlas with the first row's value of one column changed."""
    rows = atlas.rows(table)
    rows[0][column] = change
    columns = {name: [row[name] for row in rows] for name in SCHEMAS[table].names}
    return Atlas(atlas.facts, atlas.tables | {table: make_table(table, columns)})


def with_facts(atlas, **facts):
    return Atlas(atlas.facts | facts, atlas.tables)


@pytest.mark.parametrize("make", [small_atlas, awkward_atlas])
def test_what_is_saved_is_loaded(make, tmp_path):
    atlas = make()
    (tmp_path / "atlas.html").write_text("stays")
    files = atlas.save(tmp_path)
    assert Atlas.load(tmp_path) == atlas
    assert {file.name for file in files} == {"atlas.json"} | {f"{n}.{s}" for n in SCHEMAS for s in ("csv", "parquet")}
    assert (tmp_path / "atlas.html").read_text() == "stays"


def test_csv_has_the_numbers_of_the_tables(atlas, tmp_path):
    atlas.save(tmp_path)
    for name in SCHEMAS:
        with open(tmp_path / "tables" / f"{name}.csv", newline="") as handle:
            told = list(csv.DictReader(handle))
        rows = atlas.rows(name)
        assert len(told) == len(rows)
        for text, row in zip(told, rows, strict=True):
            for column, value in row.items():
                if value is None:
                    assert text[column] == ""
                elif isinstance(value, bool):
                    assert text[column] == str(value).lower()
                elif isinstance(value, str):
                    assert text[column] == value
                else:
                    assert float(text[column]) == value


def test_two_saves_give_the_same_bytes(atlas, tmp_path):
    for folder in ("a", "b"):
        small_atlas().save(tmp_path / folder)
    for file in (tmp_path / "a").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_nan_of_an_array_is_null():
    table = make_table("coactivation", {
        "site": np.array([0]), "layer": [1], "expert_a": [0], "expert_b": [1], "n": np.array([5], np.int32),
        "observed": np.array([np.nan]), "expected": [0.5], "lift": [None],
    })  # fmt: skip
    assert table["observed"].to_pylist() == [None] and table.schema == SCHEMAS["coactivation"]


@pytest.mark.parametrize(
    ("table", "column", "value", "text"),
    [
        ("experts", "load", 1.2, "table experts, column load: must be within 0 and 1, and is from"),
        ("divergence", "js", 0.7, "table divergence, column js: must be within 0 and 0.693147, and is from"),
        ("divergence", "js", -0.1, "table divergence, column js: must be within 0 and 0.693147, and is from -0.1 to"),
        ("enrichment", "q", 2.0, "table enrichment, column q: must be within 0 and 1"),
        ("paths", "n", -1, "table paths, column n: must be 0 or more, and is from -1 to"),
        ("experts", "site", 9, "table experts, column site: site 9 is not in table layers"),
        ("paths", "site_before", 9, "table paths, column site_before: site 9 is not in table layers"),
        ("experts", "expert", 4, "table experts, column expert: site 0 has experts 0 to 3, not 4"),
        ("coactivation", "expert_b", -2, "table coactivation, column expert_b: site 0 has experts 0 to 3, not -2"),
        ("experts", "expert", 2, "table experts, columns site, expert: two rows have the same values in all of these"),
        ("layers", "gini", None, "table layers, column gini: 1 rows have no value, and it may not be null"),
        ("layers", "gini", math.inf, "table layers, column gini: holds NaN or infinity; what is not known is null"),
    ],
)
def test_impossible_numbers_are_refused(atlas, table, column, value, text):
    with pytest.raises(RunError) as caught:
        changed(atlas, table, column, value)
    assert text in str(caught.value)


def test_js_of_exactly_ln_2_is_allowed(atlas):
    assert changed(atlas, "divergence", "js", math.log(2)).rows("divergence")[0]["js"] == math.log(2)


def test_wrong_columns_are_refused(atlas):
    paths = {name: [0] for name in SCHEMAS["paths"].names}
    for columns, text in (
        ({k: v for k, v in paths.items() if k != "n"}, "table paths, column n: is missing"),
        (paths | {"m": [0]}, "table paths, column m: is unknown; the table has site_before, site, expert_before"),
        (paths | {"n": ["x"]}, "table paths, column n: is no column of int64"),
        (paths | {"n": [0, 1]}, "table paths: the columns differ in length: site_before 1, site 1"),
    ):
        with pytest.raises(RunError) as caught:
            make_table("paths", columns)
        assert text in str(caught.value)
    narrow = atlas.tables["paths"].set_column(4, "n", pa.array([1] * atlas.tables["paths"].num_rows, pa.int32()))
    with pytest.raises(RunError, match="table paths, column n: is of type int32, not int64"):
        Atlas(atlas.facts, atlas.tables | {"paths": narrow})


def test_wrong_sets_of_tables_are_refused(atlas):
    without = {name: table for name, table in atlas.tables.items() if name != "paths"}
    with pytest.raises(RunError, match=r"without table paths: give empty_table\('paths'\) where nothing was measured"):
        Atlas(atlas.facts, without)
    assert Atlas(atlas.facts, without | {"paths": empty_table("paths")}).rows("paths") == []
    with pytest.raises(RunError, match="an atlas has no table more; it has layers, experts"):
        Atlas(atlas.facts, atlas.tables | {"more": empty_table("paths")})


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"model": None}, "facts of an atlas, model: must be a dictionary, not None"),
        ({"notes": "one"}, "facts of an atlas, notes: must be a list of texts, not 'one'"),
        ({"sample": {"n_items": -1}}, "facts of an atlas, sample.n_items: must be a number of 0 or more, not -1"),
        (
            {"sample": {"n_items": 1, "n_stretches": 1, "n_units": 1}},
            "facts of an atlas, sample.effective_units: must be a number of 0 or more, not None",
        ),
        ({"tracks": ["../a.bw"]}, "tracks: '../a.bw' is not a path below the folder of the page"),
        ({"tracks": ["/a.bw"]}, "tracks: '/a.bw' is not a path below the folder of the page"),
        ({"tracks": ["javascript:alert(1)"]}, "is not a path below the folder of the page"),
        ({"settings": {"x": math.nan}}, "the facts of an atlas are not plain JSON"),
        ({"settings": {"x": np.int64(1)}}, "the facts of an atlas are not plain JSON"),
    ],
)
def test_wrong_facts_are_refused(atlas, facts, text):
    with pytest.raises(RunError) as caught:
        with_facts(atlas, **facts)
    assert text in str(caught.value)


def test_damaged_folders_are_refused(atlas, tmp_path):
    with pytest.raises(RunError, match=r"holds no expert atlas: it has no atlas.json"):
        Atlas.load(tmp_path)
    atlas.save(tmp_path)
    path = tmp_path / "atlas.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(RunError, match="has format 99; this umbel reads format 1: update umbel"):
        Atlas.load(tmp_path)
    path.write_text('{"facts"')
    with pytest.raises(RunError, match=r"is not the atlas.json of an expert atlas: make the atlas again"):
        Atlas.load(tmp_path)
    path.write_text(json.dumps(told))
    table = tmp_path / "tables" / "paths.parquet"
    table.write_bytes((tmp_path / "tables" / "logos.parquet").read_bytes())
    with pytest.raises(RunError, match=r"paths.parquet is not the table that atlas.json tells of: make the atlas"):
        Atlas.load(tmp_path)
    table.unlink()
    with pytest.raises(RunError, match=r"paths.parquet is missing: make the atlas again"):
        Atlas.load(tmp_path)
