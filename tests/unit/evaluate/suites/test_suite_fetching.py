"""Fetching, with a Hub that is a function: which files are asked for, and what is said when it fails."""

import errno
import io
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from umbel.errors import ConfigError, OutputError
from umbel.evaluate.suites import fetch_suite, load_suite
from umbel.progress import Reporter

RESPONSE = SimpleNamespace(headers={}, request=None, status_code=404)
Broken = type("ReadTimeout", (Exception,), {"__module__": "httpx2"})


@pytest.fixture
def hub(monkeypatch):
    """Calls of hf_hub_download; ``refused`` maps a file's name to what is raised for it."""
    calls, refused = [], {}

    def download(repo_id, filename, *, repo_type, revision, local_dir):
        calls.append((repo_id, filename, repo_type, revision))
        for word, error in refused.items():
            if word in filename:
                raise error
        path = local_dir / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("fetched")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return calls, refused


def test_only_what_is_asked_for_is_fetched_at_its_revision(hub, tmp_path):
    calls, _ = hub
    said = io.StringIO()
    files = fetch_suite(load_suite("nt_revised"), tmp_path, ["enhancers"], Reporter(said))
    repo, revision = (
        "InstaDeepAI/nucleotide_transformer_downstream_tasks_revised",
        "851f9946252e90c665cdb3cc3eedb78f1f26197c",
    )
    assert calls == [(repo, f"enhancers/{split}.parquet", "dataset", revision) for split in ("train", "test")]
    assert files == [tmp_path / "enhancers/train.parquet", tmp_path / "enhancers/test.parquet"]
    assert said.getvalue().startswith("licence: none stated (https://huggingface.co/datasets/InstaDeepAI/nucleotide")
    # What is there is not asked for again.
    assert fetch_suite(load_suite("nt_revised"), tmp_path, ["enhancers"]) == files and len(calls) == 2


def test_a_suite_of_other_suites_keeps_their_folders(hub, tmp_path):
    calls, _ = hub
    said = io.StringIO()
    names = ["poly_a.medicago_truncatula", "H3K27ac"]
    files = fetch_suite(load_suite("mpgb"), tmp_path, names, Reporter(said))
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        "pgb/poly_a/medicago_truncatula_train.fa",
        "pgb/poly_a/medicago_truncatula_test.fa",
        "pdllm/plant-multi-species-histone-modifications/H3K27ac/train.csv",
        "pdllm/plant-multi-species-histone-modifications/H3K27ac/dev.csv",
        "pdllm/plant-multi-species-histone-modifications/H3K27ac/test.csv",
    ]
    assert calls[0][1:] == (
        "poly_a/medicago_truncatula_train.fa",
        "dataset",
        "78ec8156c2ffb3e5475277fdb7eb603294224e53",
    )
    assert calls[2][:2] == ("zhangtaolab/plant-multi-species-histone-modifications", "H3K27ac/train.csv")
    assert calls[2][3] is None
    assert said.getvalue().startswith("licence: CC-BY-NC-SA-4.0 (https://huggingface.co/datasets/InstaDeepAI/plant-")


def test_other_spellings_of_a_file_are_tried(hub, tmp_path):
    _, refused = hub
    refused["_validation.fa"] = RemoteEntryNotFoundError("no", response=RESPONSE)
    files = fetch_suite(load_suite("pgb"), tmp_path, ["pro_seq.m_esculenta"])
    assert [file.name for file in files] == ["m_esculenta_train.fa", "m_esculenta_valid.fa", "m_esculenta_test.fa"]
    refused["_"] = RemoteEntryNotFoundError("no", response=RESPONSE)
    said = (
        r"pgb: InstaDeepAI/plant-genomic-benchmark has no file poly_a/.*_train.fa. Its publishers may have changed it"
    )
    with pytest.raises(OutputError, match=said):
        fetch_suite(load_suite("pgb"), tmp_path, ["poly_a.medicago_truncatula"])


def test_files_of_classes_and_companions_and_shards(hub, tmp_path):
    calls, _ = hub
    said = io.StringIO()
    fetch_suite(load_suite("genomic_benchmarks"), tmp_path / "gb", ["demo_human_or_worm"], Reporter(said))
    assert [name for _, name, _, _ in calls] == [
        f"demo_human_or_worm/{split}/{name}.csv.gz" for split in ("train", "test") for name in ("human", "worm")
    ]
    assert "The coordinates need the genomes in FOLDER/genomes." in said.getvalue()
    calls.clear()
    fetch_suite(load_suite("lrb"), tmp_path / "lrb", ["bulk_rna_expression", "cage_prediction"])
    names = [name for _, name, _, _ in calls]
    # One file of coordinates for all splits, 34 shards of train, 3 of validation and 2 of test.
    assert len(names) == len(set(names)) == 2 + 1 + 34 + 3 + 2
    assert "bulk_rna_expression/rna_expression_values.csv" in names
    assert "cage_prediction/targets_subset/targets-valid-2000-2194.npz" in names


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LocalEntryNotFoundError("offline"), r"cannot be fetched: the Hugging Face Hub is not reached from here"),
        (OfflineModeIsEnabled("offline"), r"copy them into .*; then umbel suite check tells whether they fit"),
        (GatedRepoError("gated", response=RESPONSE), r"is gated: accept its terms at https://huggingface.co/datasets"),
        (RepositoryNotFoundError("gone", response=RESPONSE), r"no such repository or revision any more"),
        (
            HfHubHTTPError("teapot", response=RESPONSE),
            r"cannot be fetched: teapot. See https://huggingface.co/datasets",
        ),
    ],
)
def test_failures_name_the_page(hub, tmp_path, error, said):
    hub[1]["train"] = error
    with pytest.raises(OutputError, match=said) as caught:
        fetch_suite(load_suite("nt"), tmp_path, ["H3"])
    assert str(caught.value).startswith("nt: H3/train.fna of InstaDeepAI/nucleotide_transformer_downstream_tasks")
    assert "https://huggingface.co/datasets/InstaDeepAI/nucleotide_transformer_downstream_tasks" in str(caught.value)


def test_a_full_disk_and_faults_of_our_own(hub, tmp_path):
    hub[1]["train"] = OSError(errno.ENOSPC, "full")
    with pytest.raises(OutputError, match=r"H3/train.fna: could not be written, the disk is full"):
        fetch_suite(load_suite("nt"), tmp_path, ["H3"])
    hub[1]["train"] = KeyError("bug")
    with pytest.raises(KeyError):
        fetch_suite(load_suite("nt"), tmp_path, ["H3"])


def test_what_is_not_on_the_hub_is_said_before_anything_is_fetched(hub, tmp_path):
    with pytest.raises(
        OutputError, match=r"gue: H3 is not on the Hugging Face Hub. Download GUE.zip from https://drive"
    ):
        fetch_suite(load_suite("gue"), tmp_path)
    with pytest.raises(ConfigError, match=r"suite nt has no dataset 'H5'"):
        fetch_suite(load_suite("nt"), tmp_path, ["H5"])
    assert hub[0] == []


def test_another_checksum_than_the_manifests(hub, tmp_path):
    (tmp_path / "toy.toml").write_text(f"""
name = "toy"
title = "Toy"
paper = "none"
page = "https://example.org"
[source]
licence = "CC0-1.0"
page = "https://example.org"
repo = "me/toy"
[[dataset]]
name = "a"
group = "g"
task = "regression"
metric = "r2"
reader = "csv"
files = {{ test = "a.csv" }}
sha256 = {{ test = "{"0" * 64}" }}
""")
    with pytest.raises(OutputError, match=r"toy: .*a.csv has another sha256 than the manifest's 0{64}. Delete it"):
        fetch_suite(load_suite(tmp_path / "toy.toml"), tmp_path)


def test_the_function_of_the_hub_has_the_arguments_that_are_passed():
    """The stand-in above takes what the real one takes."""
    import inspect

    real = inspect.signature(huggingface_hub.hf_hub_download).parameters
    assert list(real)[:2] == ["repo_id", "filename"] and {"repo_type", "revision", "local_dir"} < set(real)
