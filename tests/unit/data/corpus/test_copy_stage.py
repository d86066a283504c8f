import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted import SEGMENT_BP, write_planted_project

from umbel.config import CorpusConfig, DuplicatesConfig, SplitConfig
from umbel.data.corpus.build import build_corpus

CONFIG = CorpusConfig(
    window_bp=512, overlap_bp=64, duplicates=DuplicatesConfig(segment_bp=SEGMENT_BP, scaled=16), min_n50_bp=0
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_planted_project(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def corpus(manifest, tmp_path_factory):
    return build_corpus(manifest, tmp_path_factory.mktemp("corpus") / "c", CONFIG)


def stretches(corpus, fate):
    rows = pq.read_table(corpus.path / "segments.parquet").to_pylist()
    return [(row["assembly"], row["contig"], row["start"], row["end"]) for row in rows if row["fate"] == fate]


def covers(found, assembly, contig, start, end):
    """What the planted stretch shares with the found ones: bases inside, and bases outside of it."""
    flags = np.zeros(100_000, bool)
    for a, c, s, e in found:
        if (a, c) == (assembly, contig):
            flags[s:e] = True
    return int(flags[start:end].sum()), int(flags[:start].sum() + flags[end:].sum())


def test_training_keeps_one_of_two_planted_copies_the_one_of_the_better_assembly(corpus):
    found = stretches(corpus, "duplicate")
    # The contig N50 of alia (50 kbp) is below that of una (80 kbp), so una's copy stays.
    assert {assembly for assembly, *_ in found} == {"alia"}
    inside, outside = covers(found, "alia", "one", 10_001, 30_001)
    # A segment at either end may be too little of a copy to go, or go with a part that is none.
    assert inside >= 20_000 - 2 * SEGMENT_BP and outside <= 2 * SEGMENT_BP


def test_training_and_validation_lose_what_has_a_copy_in_the_test(corpus):
    found = stretches(corpus, "copy of held-out")
    inside, outside = covers(found, "una", "one", 60_001, 72_001)
    assert inside >= 12_000 - 2 * SEGMENT_BP and outside <= 2 * SEGMENT_BP
    inside, outside = covers(found, "una", "two", 2_000, 9_000)
    assert inside >= 7_000 - 2 * SEGMENT_BP and outside <= 2 * SEGMENT_BP
    assert not [row for row in found if row[1] == "three" or row[0] == "alia"]


def test_no_window_lies_on_what_is_left_out(corpus):
    gone = {}
    for fate in ("duplicate", "copy of held-out"):
        for assembly, contig, start, end in stretches(corpus, fate):
            gone.setdefault((assembly, contig), np.zeros(100_000, bool))[start:end] = True
    for i in range(corpus.n_windows):
        window = corpus.window(i)
        assert not gone.get((window.assembly, window.contig), np.zeros(1, bool))[window.start : window.end].any()


def test_the_waterfall_adds_up_for_every_species(corpus):
    lengths = {"Planta una": 130_000, "Planta alia": 60_000}
    for row in corpus.facts["waterfall"]:
        assert row["in"] == sum(row["fates"].values()) == lengths[row["species"]]
    held = covered = 0
    for row in corpus.facts["waterfall"]:
        held += row["fates"]["copy of held-out"] + row["fates"]["duplicate"]
        covered += sum(row["fates"][role] for role in ("train", "valid", "test"))
    removed = stretches(corpus, "duplicate") + stretches(corpus, "copy of held-out")
    assert held == sum(end - start for *_, start, end in removed)
    flags = {}
    for i in range(corpus.n_windows):
        window = corpus.window(i)
        place = flags.setdefault((window.assembly, window.contig), np.zeros(100_000, bool))
        place[window.start : window.end] = True
    assert covered == sum(int(place.sum()) for place in flags.values())


def test_the_report_tells_the_removed_bases_by_pair_of_species(corpus):
    removed = {(row["species"], row["copy_of"], row["fate"]): row for row in corpus.facts["duplicates"]["removed"]}
    assert set(removed) == {
        ("Planta alia", "Planta una", "duplicate"),
        ("Planta una", "Planta una", "copy of held-out"),
    }
    row = removed["Planta alia", "Planta una", "duplicate"]
    assert row["n_bases"] == sum(end - start for *_, start, end in stretches(corpus, "duplicate"))
    assert corpus.facts["duplicates"]["min_containment"] == pytest.approx(0.95**21)


def test_within_species_only_copies_across_species_stay_but_not_those_across_roles(manifest, tmp_path):
    config = replace(CONFIG, duplicates=replace(CONFIG.duplicates, scope="species"))
    corpus = build_corpus(manifest, tmp_path / "c", config)
    assert not stretches(corpus, "duplicate") and stretches(corpus, "copy of held-out")


def test_asking_for_no_copies_leaves_none_out(manifest, tmp_path):
    config = replace(CONFIG, duplicates=replace(CONFIG.duplicates, ani=0.0))
    corpus = build_corpus(manifest, tmp_path / "c", config)
    assert corpus.facts["duplicates"] is None and not (corpus.path / "segments.parquet").exists()
    assert sum(row["fates"]["train"] for row in corpus.facts["waterfall"]) > 139_000


def test_gaps_are_cut_out_where_asked(manifest, tmp_path):
    config = replace(CONFIG, split_n_bp=200, window_bp=4_096, max_n_frac=0.0)
    corpus = build_corpus(manifest, tmp_path / "c", config)
    (alia,) = [row for row in corpus.facts["waterfall"] if row["species"] == "Planta alia"]
    assert alia["fates"]["gap"] == 500 and alia["fates"]["window with N"] == 0
    plain = build_corpus(manifest, tmp_path / "d", replace(config, split_n_bp=0))
    (alia,) = [row for row in plain.facts["waterfall"] if row["species"] == "Planta alia"]
    # Without cutting, the whole windows around the gap go.
    assert alia["fates"]["gap"] == 0 and alia["fates"]["window with N"] >= 4_096 - 2 * 64


def folder_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_any_number_of_workers_and_any_memory_give_the_same_bytes(manifest, corpus, tmp_path):
    whole = folder_bytes(corpus.path)
    assert folder_bytes(build_corpus(manifest, tmp_path / "two", CONFIG, workers=2).path) == whole
    # So little memory that hashes and segments are taken in many ranges.
    small = build_corpus(manifest, tmp_path / "small", CONFIG, memory_gb=1e-4)
    assert folder_bytes(small.path) == whole


RAY_PROGRAM = """
import sys
from umbel.config import CorpusConfig, from_dict
from umbel.data.corpus.build import build_corpus
import json
build_corpus(sys.argv[1], sys.argv[2], from_dict(CorpusConfig, json.loads(sys.argv[3])), workers=2, executor="ray")
"""


def test_two_workers_of_ray_give_the_same_bytes(manifest, corpus, tmp_path):
    pytest.importorskip("ray")
    from umbel.config import to_dict

    folder = tempfile.mkdtemp(prefix="ray")
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", RAY_PROGRAM, str(manifest), str(tmp_path / "c"), json.dumps(to_dict(CONFIG))]
    environment = {**os.environ, "PYTHONPATH": paths, "RAY_TMPDIR": folder}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert folder_bytes(Path(tmp_path / "c")) == folder_bytes(corpus.path)


def test_a_killed_build_goes_on_after_any_stage_to_the_same_bytes(manifest, corpus, tmp_path, monkeypatch):
    from umbel.data.corpus import parts

    whole = folder_bytes(corpus.path)
    plain, saved = parts.Part.save, []

    class Killed(BaseException):
        pass

    def dying(part, facts, files):
        found = plain(part, facts, files)
        saved.append((part.stage, part.name))
        if len(saved) % 3 == 0:
            raise Killed
        return found

    monkeypatch.setattr(parts.Part, "save", dying)
    for _ in range(20):
        try:
            again = build_corpus(manifest, tmp_path / "c", CONFIG)
            break
        except Killed:
            continue
    assert folder_bytes(again.path) == whole
    # No job was done twice.
    assert len(saved) == len(set(saved)) >= 9


def test_held_out_families_decide_without_roles_in_the_manifest(manifest, tmp_path):
    config = replace(CONFIG, split=SplitConfig(test_families=("Aliaceae",)))
    corpus = build_corpus(manifest, tmp_path / "c", config)
    assert {each.role for each in corpus.contigs() if each.assembly == "alia"} == {"test"}
    # Now una's copy of what alia has is a leak.
    inside, _ = covers(stretches(corpus, "copy of held-out"), "una", "one", 30_000, 50_000)
    assert inside >= 20_000 - 2 * SEGMENT_BP
