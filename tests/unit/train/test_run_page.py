import json
import math
import re
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from toys import toy_packed_run, toy_placement_run, toy_run
from typer.testing import CliRunner

from umbel.cli import app
from umbel.config import to_dict
from umbel.errors import BackendError, RunError
from umbel.train import run_page
from umbel.train.run_curves import LAYER_NUMBERS, Curve, read_story
from umbel.train.run_findings import find, in_time
from umbel.train.run_page import write_run_page


class Text(HTMLParser):
    """The words of a page, and whether every tag is closed."""

    VOID = frozenset({"meta", "br", "link"})

    def __init__(self, page):
        super().__init__()
        self.words, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data.strip())


def layer(index, load, routing_entropy=0.7, with_load=True):
    share = np.array(load) / sum(load)
    positive = share[share > 0]
    told = {
        "layer": index,
        "n_dead": int((share == 0).sum()),
        "max_over_mean": float(share.max() * len(share)),
        "cv": float(share.std() * len(share)),
        "entropy": float(-(positive * np.log(positive)).sum() / math.log(len(share))),
        "routing_entropy": routing_entropy,
    }
    return told | ({"load": share.tolist()} if with_load else {})


def train(step, **more):
    speed = {"lr": 1e-3, "grad_norm": 0.5, "tokens_per_s": 1000.0, "seconds": 2.0 * step}
    return {"kind": "train", "step": step, "loss": 1.4 - 1e-3 * step, "accuracy": 0.3, **speed, **more}


def valid(step, loss=1.35, **more):
    return {"kind": "valid", "step": step, "loss": loss, "accuracy": 0.3, **more}


def event(step, name, text="why", **more):
    return {"kind": "event", "step": step, "event": name, "text": text, **more}


def write_run(folder, records, run=None, **facts):
    folder.mkdir(exist_ok=True)
    content = {"config": to_dict(run or toy_run(steps=100)), "corpus": {"hash": "c0ffee" * 10}, "umbel": "0.1.0"}
    content |= {"torch": "2.13", "device": "cpu", "threads": 1, **facts}
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def drawn(folder):
    page = write_run_page(folder).path.read_text()
    parsed = Text(page)
    assert not parsed.open
    assert not re.search(r"(?:src|href)=[\"']?(?:http|//)|@import|url\(http", page)
    return page, " ".join(word for word in parsed.words if word)


def findings(folder):
    return {(each.verdict, f"{each.about}: {each.text}") for each in find(read_story(folder))}


def test_bins_keep_sums_and_extremes_however_the_values_come():
    rng = np.random.default_rng(0)
    values = rng.normal(size=5_000)
    values[[17, 4_000]] = math.nan, math.inf
    steps = np.arange(1, 5_001)
    whole, parts = Curve(), Curve()
    whole.add(steps, values)
    for start in range(0, 5_000, 333):
        parts.add(steps[start : start + 333], values[start : start + 333])
    assert (whole.width, whole.n_missing, parts.n_missing) == (8, 2, 2)
    for number, found in enumerate(whole.steps):
        inside = [(s, v) for s, v in zip(steps, values, strict=True) if s // 8 == number and math.isfinite(v)]
        assert found == pytest.approx(np.mean([s for s, _ in inside]))
        numbers = [v for _, v in inside]
        assert whole.mean[number] == pytest.approx(np.mean(numbers))
        assert (whole.low[number], whole.high[number]) == (min(numbers), max(numbers))
    for name in ("steps", "mean", "low", "high"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)


def test_smoothing_is_the_mean_of_the_steps_around():
    rng = np.random.default_rng(1)
    values = rng.normal(size=500)
    curve = Curve()
    curve.add(np.arange(500), values)
    smooth = curve.smoothed()
    for place in (0, 4, 10, 250, 499):
        assert smooth[place] == pytest.approx(values[max(0, place - 10) : place + 11].mean())


def test_a_real_run_is_told(toy_training):
    page, text = drawn(toy_training)
    assert "Run of toy" in text and "12 of 12 steps" in text and "all 12 steps are done" in text
    assert "even guess, ln 4" in page and "validation is" in text and "3 experts in 1 of them" in text
    assert json.loads((toy_training / "run.json").read_text())["corpus"]["hash"] in text
    assert "The run has met nothing out of the ordinary" in text


@pytest.mark.parametrize("fixture", ["toy_packed_training", "toy_placement_training"])
def test_packed_rows_and_placement_are_told(fixture, request):
    page, text = drawn(request.getfixturevalue(fixture))
    if fixture == "toy_packed_training":
        assert "4 rows of 100 tokens" in text and "even guess, 3 ln 4" in page
    else:
        assert "Putting cut spans back" in text and "even guess, ln 3" in page


@pytest.mark.parametrize("n_records", [0, 1, 12])
def test_short_runs_are_told(n_records, tmp_path):
    experts = [layer(1, [5, 3, 2], with_load=False)]
    _, text = drawn(write_run(tmp_path / "run", [train(step + 1, experts=experts) for step in range(n_records)]))
    assert f"{n_records} of 100 steps" in text
    if n_records == 0:
        assert "no step is finished yet" in text and "No loss has been recorded yet" in text
    else:
        assert f"{n_records} of 100 steps ({n_records} %) are done; the rest takes about" in text
        assert "Training at step" in text and "share of each expert" not in text


def test_placement_alone_and_no_experts(tmp_path):
    run = toy_placement_run(steps=100)
    records = [{k: v for k, v in train(step).items() if k not in ("loss", "accuracy")} for step in range(1, 9)]
    records = [{**record, "placement_loss": 1.0, "placement_accuracy": 0.5} for record in records]
    page, text = drawn(write_run(tmp_path / "run", records, run))
    assert "Putting cut spans back" in text and "even guess, ln 4" not in page
    dense = toy_run(steps=100)
    config = to_dict(dense)
    config["model"]["pattern"] = "Md"
    folder = write_run(tmp_path / "dense", [train(1)])
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"Md Me"', '"Md"'))
    assert "The network has no experts" in drawn(folder)[1]


def test_a_long_run_is_thinned_in_bounded_memory(tmp_path, monkeypatch):
    """10,000 steps with one spike: the curve keeps it, and what is held is a small part of the file."""
    from umbel.train import run_curves

    monkeypatch.setattr(run_curves, "_BLOCK_RECORDS", 100)
    folder = write_run(tmp_path / "run", [], toy_run(steps=10_000))
    experts = [layer(index, [5, 3, 2], with_load=False) for index in (1, 3)]
    with (folder / "metrics.jsonl").open("w") as out:
        for step in range(1, 10_001):
            out.write(json.dumps(train(step, loss=9.25 if step == 6_234 else 1.3, experts=experts)) + "\n")
    n_bytes = (folder / "metrics.jsonl").stat().st_size
    tracemalloc.start()
    story = read_story(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5e6 < n_bytes / 2
    curve = story.curves["train/loss"]
    assert 500 <= len(curve.steps) <= 1_000 and curve.high.max() == 9.25
    assert abs(curve.steps[int(curve.high.argmax())] - 6_234) <= curve.width
    assert story.step == 10_000 and story.seconds == pytest.approx(20_000)


def test_of_a_very_long_run_the_experts_of_some_steps_are_read_and_all_else_of_every_step(tmp_path, monkeypatch):
    from umbel.train import run_curves

    loads = [[step % 7 + 1, 5, 5] for step in range(1, 901)]
    records = [train(step, experts=[layer(1, loads[step - 1], with_load=False)]) for step in range(1, 901)]
    records.insert(450, valid(450, experts=[layer(1, [1, 2, 3])]))
    folder = write_run(tmp_path / "run", records, toy_run(steps=900))
    whole = read_story(folder)
    size = (folder / "metrics.jsonl").stat().st_size
    monkeypatch.setattr(run_curves, "_WHOLE_BYTES", size // 3)
    part = read_story(folder)
    for name in ("train/loss", "train/grad_norm", "valid/1/cv"):
        np.testing.assert_array_equal(part.curves[name].mean, whole.curves[name].mean)
    read = part.curves["train/1/cv"]
    assert 200 <= len(read.steps) <= 250 < 900 == len(whole.curves["train/1/cv"].steps)
    for step, value in zip(read.steps, read.mean, strict=True):
        assert value == pytest.approx(layer(1, loads[int(step) - 1])["cv"])
    assert part.last["train"]["step"] == 900 and part.experts["valid"]["step"] == 450


def test_findings_say_what_stands_out(tmp_path):
    experts = [layer(1, [5, 3, 2]), layer(3, [1, 0, 9], routing_entropy=0.999)]
    records = [train(step, data_wait_frac=0.34, tokens_per_s=1000.0 if step < 60 else 500.0) for step in range(1, 81)]
    records[20:20] = [event(20, "skipped", "the loss is nan"), event(20, "rolled back", from_step=23)]
    records += [event(80, "skipped"), valid(40, 1.30), valid(80, 1.34, ema_loss=1.33, experts=experts)]
    assert findings(write_run(tmp_path / "run", records)) == {
        ("even", "Progress: 80 of 100 steps (80 %) are done; the rest takes about 40 s"),
        (
            "bad",
            "Validation loss: 1.3400 at step 80; the least was 1.3000 at step 40. It rises: the run may be memorising, "
            "or its learning rate is too high",
        ),
        ("good", "Beside guessing: validation is 0.0463 nats below an even guess (ln 4 = 1.386)"),
        ("good", "Averaged weights: the moving average is 0.0100 nats better than the last weights"),
        ("bad", "Bad steps: 2 steps were skipped (steps 20, 80)"),
        ("bad", "Bad steps: 1 step was bad, and the run rolled back (step 23)"),
        ("bad", "Layer 3: expert 2 took 90 % of the tokens, 2.7 times the mean"),
        ("bad", "Layer 3: expert 1 got no token at step 80"),
        ("even", "Layer 3: the router hardly tells tokens apart: its choice has 99.9 % of the largest entropy"),
        (
            "bad",
            "Data: 34 % of the time goes by waiting for data: give the process more CPU cores, or put the corpus on a "
            "faster disk",
        ),
        ("bad", "Speed: 500 tokens/s of late, 1,000 over the run: something else may take the machine's time"),
    }


def test_a_healthy_run_is_called_so_and_an_even_expert_is_not_blamed_for_its_tokens(tmp_path):
    """With two of four experts a token, each takes half of the tokens when all is even."""
    from dataclasses import replace

    run = toy_run(steps=100)
    run = replace(run, model=replace(run.model, n_experts=4, top_k=2))
    records = [*(train(step) for step in range(1, 101)), valid(100, experts=[layer(1, [26, 25, 25, 24])])]
    assert findings(write_run(tmp_path / "run", records, run)) == {
        ("good", "Progress: all 100 steps are done, in 3 min 20 s"),
        ("even", "Validation loss: 1.3500 at step 100, the least so far"),
        ("good", "Beside guessing: validation is 0.0363 nats below an even guess (ln 4 = 1.386)"),
        ("good", "Experts: all experts of all layers are at work; the busiest takes 1.0 times the mean"),
    }


def test_losses_that_are_not_finite_are_counted_and_left_out(tmp_path):
    records = [train(step, loss=math.nan if step in (3, 5) else 1.3) for step in range(1, 9)]
    folder = write_run(tmp_path / "run", records)
    assert ("bad", "Bad steps: 2 training losses not finite") in findings(folder)
    assert "2 losses were not finite and are left out" in drawn(folder)[1]


def test_events_are_listed_with_what_happened_and_marked_on_the_curve(tmp_path):
    records = [train(step) for step in range(1, 60)]
    records += [event(20, "rolled back", "the loss is <nan>", from_step=23), event(30, "saved"), event(30, "resumed")]
    page, text = drawn(write_run(tmp_path / "run", records))
    assert "the loss is <nan>" in text and "<nan>" not in page and "from 23" in text
    assert "States were saved 1 times" in text and "bad step" in text
    plain, _ = drawn(write_run(tmp_path / "plain", records[:59]))
    mark = "#b34a00"
    assert page.count(mark) > plain.count(mark)


def test_parameters_commit_and_processes_are_told_where_the_run_has_them(tmp_path):
    told = {"n_parameters": 386_000, "n_active_parameters": 238_000, "commit": "abcdef1234567890", "processes": 8}
    assert "386,000 238,000 active for each token" in (text := drawn(write_run(tmp_path / "a", [train(1)], **told))[1])
    assert "8 processes, 1 thread" in text and "abcdef123456" in text
    assert "active for each token" not in drawn(write_run(tmp_path / "b", [train(1)]))[1]


def test_time_adds_up_over_processes(tmp_path):
    records = [train(step, seconds=10.0 * step) for step in (1, 2, 3)]
    records += [train(step, seconds=10.0 * (step - 3)) for step in (4, 5)]
    assert read_story(write_run(tmp_path / "run", records)).seconds == 50.0
    assert [in_time(s) for s in (59.4, 60, 3_599, 3_600, 86_399, 86_400)] == [
        *("59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h"),
    ]


def test_every_number_of_a_layer_has_a_curve(tmp_path):
    records = [train(step, experts=[layer(3, [1, 2, 3], with_load=False)]) for step in range(1, 5)]
    story = read_story(write_run(tmp_path / "run", records))
    for name in LAYER_NUMBERS:
        (curve,) = story.layer_curves(name).values()
        assert curve.mean.tolist() == pytest.approx([layer(3, [1, 2, 3])[name]] * 4)


def test_the_same_run_gives_the_same_bytes(tmp_path):
    folder = write_run(tmp_path / "run", [train(step) for step in range(1, 30)])
    assert drawn(folder)[0] == drawn(folder)[0]


def test_what_is_no_run_or_damaged_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"no run folder \(no run\.json\)\. Give the folder of an umbel pretrain"):
        write_run_page(tmp_path)
    (tmp_path / "run.json").write_text('{"config": {}}')
    with pytest.raises(RunError, match=r"run\.json: damaged \(KeyError: 'train'\)"):
        write_run_page(tmp_path)
    folder = write_run(tmp_path / "run", [train(1), train(2)])
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text() + '{"kind": "tr')
    assert "2 of 100 steps" in drawn(folder)[1]
    (folder / "metrics.jsonl").write_text("nonsense\n" + json.dumps(train(2)) + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1: not JSON .*delete that line"):
        write_run_page(folder)
    monkeypatch.setattr(run_page, "find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(BackendError, match=r"the page of a run needs jinja2: pip install 'umbel\[train\]'"):
        write_run_page(folder)


def test_the_command_draws_the_page_and_prints_what_stands_out(tmp_path):
    folder = write_run(tmp_path / "run", [train(1)], toy_packed_run(steps=10))
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0 and (folder / "run.html").exists()
    assert done.output.splitlines()[0] == str(folder / "run.html")
    assert "  Progress: 1 of 10 steps (10 %) are done; the rest takes about 18 s" in done.output
    told = json.loads(CliRunner().invoke(app, ["report", str(folder), "--json"]).output)
    assert told["path"] == str(folder / "run.html") and told["findings"][0]["verdict"] == "even"
