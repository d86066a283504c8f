"""What every test shares: ``toys`` can be imported, torch uses one thread and is deterministic, nothing is fetched."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch
from toys import toy_packed_run, toy_placement_run, toy_run, write_toy_project, write_toy_species

torch.set_num_threads(1)
# Before anything imports triton, which reads it then.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _deterministic():
    """Same random numbers in each test; uninitialised memory is filled with NaN, so that reading it shows."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def toy_manifest(tmp_path_factory):
    return write_toy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def toy_corpus(toy_manifest, tmp_path_factory):
    """A corpus of windows of 256 bp with roles train, valid and test, and an annotation."""
    from umbel.data.corpus.build import build_corpus

    return build_corpus(toy_manifest, tmp_path_factory.mktemp("corpus") / "toy", toy_run().corpus)


@pytest.fixture(scope="session")
def species_corpus(tmp_path_factory):
    """A corpus of three species, in windows of 256 bp that share nothing."""
    from umbel.config import CorpusConfig
    from umbel.data.corpus.build import build_corpus

    folder = tmp_path_factory.mktemp("species")
    config = CorpusConfig(window_bp=256, overlap_bp=0, min_n50_bp=0)
    return build_corpus(write_toy_species(folder), folder / "corpus", config)


@pytest.fixture(scope="session")
def toy_training(toy_corpus, tmp_path_factory):
    """A finished run of 12 steps: its folder has checkpoint/, metrics.jsonl and state/."""
    from umbel.train.pretrain import pretrain

    folder = tmp_path_factory.mktemp("runs") / "toy"
    pretrain(toy_run(), toy_corpus.path, folder)
    return folder


@pytest.fixture(scope="session")
def toy_packed_training(toy_corpus, tmp_path_factory):
    """A finished run of 12 steps on 3-mers in packed rows."""
    from umbel.train.pretrain import pretrain

    folder = tmp_path_factory.mktemp("runs") / "toy3"
    pretrain(toy_packed_run(), toy_corpus.path, folder)
    return folder


@pytest.fixture(scope="session")
def toy_placement_training(toy_corpus, tmp_path_factory):
    """A finished run of 12 steps with hidden bases, hidden runs and cut spans."""
    from umbel.train.pretrain import pretrain

    folder = tmp_path_factory.mktemp("runs") / "toy_placement"
    pretrain(toy_placement_run(), toy_corpus.path, folder)
    return folder
