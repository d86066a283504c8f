import json

import anndata
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from umbel import extras
from umbel.errors import BackendError
from umbel.extras import require_packages
from umbel.predict.embed import EmbedSettings, embed_file
from umbel.predict.predictor import Predictor

NAMES = ("a'b", "two", 'q"c', "gap")


@pytest.fixture(scope="module")
def tables(toy_training, tmp_path_factory):
    """The same rows in the three formats; the last has no real base."""
    folder = tmp_path_factory.mktemp("formats")
    rng = np.random.default_rng(0)
    source = folder / "in.fa"
    letters = ["".join(rng.choice(list("ACGTN"), n)) for n in (500, 30, 257)] + ["N" * 40]
    source.write_text("".join(f">{name}\n{text}\n" for name, text in zip(NAMES, letters, strict=True)))
    predictor = Predictor.load(toy_training, device="cpu")
    settings = EmbedSettings(window_bp=100, layer=0, pooling="max")
    found = {}
    for suffix in ("parquet", "h5ad", "zarr"):
        found[suffix] = embed_file(predictor, source, folder / f"o.{suffix}", settings=settings)
    return predictor, found


def test_the_formats_hold_the_same(tables):
    predictor, found = tables
    table = pq.read_table(found["parquet"].path)
    rows = table.drop(["embedding"]).to_pylist()
    for read, suffix in ((anndata.read_h5ad, "h5ad"), (anndata.read_zarr, "zarr")):
        data = read(found[suffix].path)
        assert data.X.shape == (len(rows), 16)
        assert data.X.dtype == np.float32
        assert list(data.obs.columns) == ["name", "contig", "start", "end", "strand", "n_bases"]
        assert data.obs.astype(object).to_dict("records") == rows
        assert list(data.var_names) == [f"e{i}" for i in range(16)]
        assert data.uns["umbel"]["weights"] == predictor.weights_hash
        for vector, row in zip(data.X, table["embedding"].to_pylist(), strict=True):
            np.testing.assert_array_equal(vector, np.full(16, np.nan) if row is None else np.float32(row))
        told = json.loads(table.schema.metadata[b"umbel"])
        settings = {
            key: getattr(value, "item", lambda v=value: v)() for key, value in data.uns["umbel"]["settings"].items()
        }
        assert settings == told["settings"]
        assert data.uns["umbel"]["source"] == told["source"]
    assert {(r.rows, r.without_bases) for r in found.values()} == {(len(rows), 1)}
    group = zarr.open_group(found["zarr"].path, mode="r")
    np.testing.assert_array_equal(group["X"][:], anndata.read_h5ad(found["h5ad"].path).X)


def test_what_is_missing_is_named_with_the_group_that_has_it(monkeypatch, tables, tmp_path):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "anndata" else object())
    predictor, found = tables
    with pytest.raises(BackendError, match=r"-o x\.h5ad needs anndata: pip install 'umbel\[tracks\]'"):
        embed_file(predictor, found["parquet"].path.with_name("in.fa"), tmp_path / "x.h5ad")
    with pytest.raises(BackendError, match=r"it needs anndata: pip install 'umbel\[search\]'"):
        require_packages("it", "search", ("anndata", "numpy"))


def test_a_failure_leaves_the_old_store(tables, tmp_path, monkeypatch):
    predictor, found = tables
    source = found["parquet"].path.with_name("in.fa")
    out = tmp_path / "o.zarr"
    out.mkdir()
    (out / "old").write_text("old")

    def failing(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("anndata.io.write_elem", failing)
        embed_file(predictor, source, out)
    assert [path.name for path in out.iterdir()] == ["old"]
    embed_file(predictor, source, out)
    assert anndata.read_zarr(out).n_obs == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.zarr"]
