"""Recording against plain loops: sums, turned labels, windows, resumption."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from atlas_toys import RuleModel, ToySource
from toys import enlarge, toy_stream_model

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe
from umbel.errors import ConfigError, InputError
from umbel.evaluate.experts import recording as recording_module
from umbel.evaluate.experts import stretches as stretches_module
from umbel.evaluate.experts.accumulator import N_TOP, TOP_BP
from umbel.evaluate.experts.folder import ITEMS, SUMS, Recording
from umbel.evaluate.experts.ours import OurModel
from umbel.evaluate.experts.recording import RecordSettings, record
from umbel.evaluate.experts.source import Labelling, Stretch
from umbel.evaluate.experts.stretches import Reading, route_stretches
from umbel.evaluate.experts.totals import AROUND
from umbel.model.hf import new_model
from umbel.predict.predictor import Predictor


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    source, model = ToySource(), RuleModel()
    settings = RecordSettings(overlap_bp=10, n_shifts=7, seed=3)
    return source, model, record(model, source, tmp_path_factory.mktemp("atlas") / "routes", settings)


def routed_by_windows(model, source, reading):
    """Every stretch with the routing of each of its bases, one window at a time."""
    for i in range(len(source)):
        stretch = source.stretch(i)
        n = len(stretch.content)
        rows = [None] * n
        for window in reading.tiling(model).windows(n):
            (routed,) = model.route([stretch.content[window.start : window.end]])
            for base in range(window.kept_start, window.kept_end):
                rows[base] = [
                    (
                        site.experts[base - window.start].tolist(),
                        site.weights[base - window.start].tolist(),
                        float(site.entropy[base - window.start]),
                        float(site.margin[base - window.start]),
                    )
                    for site in routed.sites
                ]
        yield i, stretch, rows


def test_every_sum_equals_a_plain_loop(recorded):
    source, model, found = recorded
    totals = found.totals
    for place, site in enumerate(model.sites):
        n, e = source.n_units, site.n_experts
        counts, weights = np.zeros((n, e), int), np.zeros((n, e))
        entropy, n_scored, margin = np.zeros(n), np.zeros(n, int), np.zeros(n)
        pairs, items = np.zeros((e, e), int), np.zeros(n, int)
        joint = {each.name: np.zeros((n, len(each.classes), e), int) for each in source.labellings}
        around = np.zeros((e, 2 * AROUND + 1, 4), int)
        contexts = {"base": np.zeros((4, e), int), "3-mer": np.zeros((64, e), int), "6-mer": np.zeros((4096, e), int)}
        class_words = {name: np.zeros((len(table[0]), 4096), int) for name, table in joint.items()}
        for _, stretch, rows in routed_by_windows(model, source, Reading(overlap_bp=10)):
            codes, u = stretch.content, stretch.unit
            for t, base in enumerate(codes.tolist()):
                if base == 4:
                    continue
                items[u] += 1
                experts, gates, h, m = rows[t][place]
                entropy[u] += 0 if np.isnan(h) else h
                n_scored[u] += not np.isnan(h)
                margin[u] += 0 if np.isnan(m) else m
                classes = {name: int(labels[t]) for name, labels in stretch.labels.items()} | dict(stretch.classes)
                word = codes[t - 2 : t + 4].tolist() if t >= 2 else []
                is_word = len(word) == 6 and 4 not in word
                number = int("".join(map(str, word)), 4) if is_word else -1
                for name, c in classes.items():
                    if c >= 0 and is_word:
                        class_words[name][c, number] += 1
                for expert, gate in zip(experts, gates, strict=True):
                    counts[u, expert] += 1
                    weights[u, expert] += gate
                    for other in experts:
                        pairs[expert, other] += 1
                    for name, c in classes.items():
                        if c >= 0:
                            joint[name][u, c, expert] += 1
                    if is_word:
                        contexts["base"][word[2], expert] += 1
                        contexts["3-mer"][int("".join(map(str, word[1:4])), 4), expert] += 1
                        contexts["6-mer"][number, expert] += 1
                for offset in range(-AROUND, AROUND + 1):
                    if 0 <= t + offset < len(codes) and codes[t + offset] < 4:
                        around[experts[0], offset + AROUND, codes[t + offset]] += 1
        told = totals.sites[place]
        np.testing.assert_array_equal(told.counts, counts)
        np.testing.assert_allclose(told.weights, weights, rtol=1e-6)
        np.testing.assert_allclose(told.entropy, entropy, rtol=1e-6)
        np.testing.assert_allclose(told.margin, margin, rtol=1e-6)
        np.testing.assert_array_equal(told.n_scored, n_scored)
        assert told.n_margins.sum() == (items.sum() if place == 0 else 0)
        np.testing.assert_array_equal(told.pairs, pairs)
        np.testing.assert_array_equal(told.around, around)
        for name, table in joint.items():
            np.testing.assert_array_equal(told.joint[name], table)
            np.testing.assert_array_equal(totals.class_contexts[name, "6-mer"], class_words[name])
        for kind, table in contexts.items():
            np.testing.assert_array_equal(told.contexts[kind], table)
        np.testing.assert_array_equal(totals.items, items)
        assert counts.sum() == site.top_k * items.sum()


def test_paths_and_turned_labels_equal_a_plain_loop(recorded):
    source, model, found = recorded
    second = found.totals.sites[1]
    paths = np.zeros((4, 5), int)
    turned = {name: np.zeros((7, n, 5), int) for name, n in (("long", 3), ("short", 2))}
    for number, stretch, rows in routed_by_windows(model, source, Reading(overlap_bp=10)):
        n = len(stretch.content)
        distances = np.random.default_rng([3, number]).integers(1, max(2, n), 7)
        assert ((distances >= 1) & (distances < n)).all()
        for t in range(n):
            if stretch.content[t] == 4:
                continue
            paths[rows[t][0][0][0], rows[t][1][0][0]] += 1
            for s, distance in enumerate(distances.tolist()):
                for name, table in turned.items():
                    label = stretch.labels[name][(t + distance) % n]
                    for expert in rows[t][1][0]:
                        if label >= 0:
                            table[s, label, expert] += 1
    np.testing.assert_array_equal(second.paths, paths)
    for name, table in turned.items():
        np.testing.assert_array_equal(second.shifted[name], table)


def test_top_windows_are_the_best_of_all_bins(recorded):
    source, model, found = recorded
    everything = []
    for number, stretch, rows in routed_by_windows(model, source, Reading(overlap_bp=10)):
        for start in range(0, len(rows) - TOP_BP + 1, TOP_BP):
            real = [t for t in range(start, start + TOP_BP) if stretch.content[t] < 4]
            if len(real) >= 0.9 * TOP_BP:
                share = np.mean([rows[t][0][0][0] == 2 for t in real])
                everything.append((-share, number, start))
    best = [(-share, number, start) for share, number, start in sorted(everything)[:N_TOP]]
    a = found.sums.arrays
    n = len(best)
    assert n > 5
    np.testing.assert_allclose(a["0/top_score"][2][:n], [share for share, _, _ in best])
    # Site 0 weighs by the base, so windows of one share have one weight, and their order is that of the genome.
    assert list(zip(a["0/top_stretch"][2][:n], a["0/top_start"][2][:n], strict=True)) == [b[1:] for b in best]
    assert (a["0/top_score"][2][n:] == -1).all()


def test_a_stopped_recording_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches_module, "CHUNK_ITEMS", 100)
    monkeypatch.setattr(stretches_module.chunks, "__defaults__", (0, 100))
    source, settings = ToySource(), RecordSettings(overlap_bp=10, n_shifts=3, items=True)
    whole = record(RuleModel(), source, tmp_path / "whole", settings)

    class Stopping(RuleModel):
        def route(self, sequences):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().route(sequences)

    with pytest.raises(KeyboardInterrupt):
        record(Stopping(), source, tmp_path / "part", settings, save_every_s=0)
    with pytest.raises(InputError, match=r"stopped at 2 of 5 stretches. Run the same command again"):
        Recording.load(tmp_path / "part")
    rest = RuleModel()
    record(rest, source, tmp_path / "part", settings)
    assert rest.calls == 2  # two chunks were left, of four
    for name in [SUMS, "recording.json", *(f"{ITEMS}/{p.name}" for p in (whole.folder / ITEMS).iterdir())]:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = Recording.load(tmp_path / "part")
    np.testing.assert_array_equal(again.totals.sites[1].joint["long"], whole.totals.sites[1].joint["long"])
    assert again.sites == whole.sites and again.labellings == whole.labellings


def test_items_on_disk_add_up_to_the_sums(tmp_path):
    found = record(RuleModel(), ToySource(), tmp_path / "r", RecordSettings(overlap_bp=10, n_shifts=0, items=True))
    table = pq.read_table(tmp_path / "r" / ITEMS).to_pydict()
    counts = np.bincount(np.concatenate(table["site1_experts"]), minlength=5)
    np.testing.assert_array_equal(counts, found.totals.sites[1].counts.sum(0))
    assert len(table["start"]) == found.totals.items.sum()
    first = ToySource().stretch(1)
    mine = [s for s, name in zip(table["start"], table["sequence"], strict=True) if name == "s1"]
    assert mine == (10 + np.flatnonzero(first.content < 4)).tolist()


def test_refusals(tmp_path):
    record(RuleModel(), ToySource(), tmp_path / "r", RecordSettings(overlap_bp=10, n_shifts=0))
    with pytest.raises(ConfigError, match=r"another settings[.] Choose another folder with -o"):
        record(RuleModel(), ToySource(), tmp_path / "r", RecordSettings(overlap_bp=10, n_shifts=1))
    with pytest.raises(ConfigError, match="another source"):
        record(RuleModel(), ToySource(seed=1), tmp_path / "r", RecordSettings(overlap_bp=10, n_shifts=0))
    with pytest.raises(ConfigError, match="the source has no stretch"):
        record(RuleModel(), ToySource(()), tmp_path / "e")

    class Failing(RuleModel):
        def route(self, sequences):
            raise ConfigError("cannot read this")

    with pytest.raises(ConfigError, match="cannot read this"):
        record(Failing(), ToySource(seed=1), tmp_path / "f")
    assert record(RuleModel(), ToySource(), tmp_path / "f", RecordSettings(overlap_bp=10)).totals.items.sum() > 0
    with pytest.raises(InputError, match="no recording of experts is here"):
        Recording.load(tmp_path)
    (tmp_path / "r" / SUMS).write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged"):
        Recording.load(tmp_path / "r")
    with pytest.raises(ConfigError, match="made for 64: use shorter ones"):
        route_stretches(RuleModel(), [], Reading(window_bp=65))


def test_a_unit_of_two_classes_is_refused(tmp_path):
    class Mixed(ToySource):
        def stretch(self, i):
            return replace(super().stretch(i), unit=0, classes={"kind": i % 2})

    with pytest.raises(ConfigError, match=r"s1: kind is 1, and others of its unit 0 have 0"):
        record(RuleModel(), Mixed(), tmp_path / "r", RecordSettings(overlap_bp=10, n_shifts=0))


class TextModel(RuleModel):
    def route(self, sequences):
        for routed in super().route([np.array([ord(c) % 4 for c in text], np.uint8) for text in sequences]):
            tokens = np.array([ord(c) for c in sequences[routed.index]], np.int32)
            yield replace(routed, tokens=tokens, counted=tokens != ord("^"))


def test_text_is_counted_by_tokens(tmp_path):
    class Texts:
        labellings = (Labelling("task", ("a", "b"), "sequence"),)
        n_units, facts = 2, {}
        texts = ("^hello there", "^so be it")

        def __len__(self):
            return 2

        def stretch(self, i):
            return Stretch(f"t{i}", 0, self.texts[i], i, {}, {"task": i})

    totals = record(TextModel(), Texts(), tmp_path / "t").totals
    table = totals.sites[0].contexts["token"]
    for letter in "hello":
        n = sum(text.count(letter) for text in Texts.texts)
        assert table[ord(letter)].tolist() == (n * (np.arange(4) == ord(letter) % 4)).tolist()
    assert table[ord("^")].sum() == 0
    assert totals.class_contexts["task", "token"][0, ord("l")] == 2
    assert totals.sites[0].around.size == 0 and set(totals.sites[0].contexts) == {"token"}
    with pytest.raises(ConfigError, match="text and bases in one recording"):

        class Both(Texts):
            def stretch(self, i):
                return super().stretch(i) if i else Stretch("dna", 0, np.zeros(9, np.uint8), 0, {}, {"task": 0})

        class Either(RuleModel):
            def route(self, sequences):
                dna = [s if not isinstance(s, str) else np.zeros(len(s), np.uint8) for s in sequences]
                return super().route(dna)

        record(Either(), Both(), tmp_path / "both")


def toy(k=1, **changes):
    tokens = KmerTokens(k)
    config = replace(toy_stream_model(), vocab_size=92, **changes)
    return Predictor(enlarge(new_model(config, 64, 3, describe(tokens))), "toy", torch.device("cpu"), tokens)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"gating": "softmax", "top_k": 1}, {"top_k": 3}])
def test_our_model_tells_what_the_backbone_decided(k, changes):
    predictor = toy(k, **changes)
    model = OurModel(predictor)
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 5, n).astype(np.uint8) for n in (37, 9, 64)]
    alone = [next(model.route([sequence])) for sequence in codes]
    together = sorted(model.route(codes), key=lambda routed: routed.index)
    for sequence, routed, batched in zip(codes, alone, together, strict=True):
        encoding = predictor.tokens.encode(sequence)
        with torch.no_grad():
            routings = predictor.backbone(torch.from_numpy(encoding.ids)[None]).routings
        assert routed.tokens.tolist() == sequence.tolist() and routed.counted.tolist() == (sequence < 4).tolist()
        for routing, site, other in zip(routings, routed.sites, batched.sites, strict=True):
            np.testing.assert_array_equal(site.experts, other.experts)
            np.testing.assert_allclose(site.weights, other.weights, atol=1e-5)
            for base, token in enumerate(encoding.token_of_base(len(sequence)).tolist()):
                logits = routing.logits[0, token].double()
                p = logits.softmax(-1) if routing.scores == "softmax" else logits.sigmoid() / logits.sigmoid().sum()
                ranked = sorted(p.tolist(), reverse=True)
                top = len(site.experts[base])
                assert site.experts[base].tolist() == routing.experts[0, token].tolist()
                assert site.entropy[base] == pytest.approx(float(-(p * p.log()).sum()), abs=1e-5)
                if top < 3:
                    assert site.margin[base] == pytest.approx(ranked[top - 1] - ranked[top], abs=1e-5)
                else:
                    assert np.isnan(site.margin[base])


def test_our_model_refuses_text_and_dense_networks():
    with pytest.raises(ConfigError, match="reads bases, and was given the text 'hello'"):
        next(OurModel(toy()).route(["hello"]))
    with pytest.raises(ConfigError, match="no expert layers"):
        OurModel(toy(pattern="Hd"))


def test_saving_waits(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(recording_module, "write_state", lambda folder, arrays, done: saved.append(done))
    monkeypatch.setattr(stretches_module.chunks, "__defaults__", (0, 100))
    record(RuleModel(), ToySource(), tmp_path / "r", RecordSettings(overlap_bp=10, n_shifts=0), save_every_s=1e9)
    assert saved == [5]


def test_memory_does_not_grow_with_the_number_of_items(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches_module.chunks, "__defaults__", (0, 2_000))
    settings = RecordSettings(overlap_bp=10, n_shifts=5)
    record(RuleModel(), ToySource((2_000,)), tmp_path / "warm", settings)

    def peak(n_stretches):
        tracemalloc.start()
        record(RuleModel(), ToySource((2_000,) * n_stretches), tmp_path / str(n_stretches), settings)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, (tmp_path / str(n_stretches) / SUMS).stat().st_size

    (few, few_bytes), (many, many_bytes) = peak(4), peak(40)
    assert many < 1.1 * few and many_bytes == few_bytes
