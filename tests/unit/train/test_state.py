import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter

from umbel.errors import OutputError, RunError
from umbel.progress import Reporter
from umbel.train.processes import World
from umbel.train.state import StateWriter, newest_state, read_metrics, read_tensors, rewind_metrics, saved_shapes

WORLD, SILENT = World(torch.device("cpu")), Reporter(quiet=True)


def written(folder, steps, keep=2):
    states = StateWriter(folder, keep, WORLD)
    for step in steps:
        states.save(step, {"x": torch.full((2,), float(step)), "n": torch.tensor(3.0)}, {"cursor": step + 1})
    states.close()


def read_x(folder):
    x = torch.zeros(2)
    read_tensors(folder, {"x": x}, WORLD)
    return x.tolist()


def test_newest_states_are_kept_and_loaded(tmp_path):
    written(tmp_path, (5, 10, 15))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000010", "step-000000015"]
    path, step, numbers = newest_state(tmp_path, SILENT)
    assert (path.name, step, numbers) == ("step-000000015", 15, {"cursor": 16})
    assert saved_shapes(path) == {"x": (torch.Size([2]), torch.float32), "n": (torch.Size([]), torch.float32)}
    assert read_x(path) == [15.0, 15.0]
    assert newest_state(tmp_path / "none", SILENT) is None


def test_what_changes_after_the_call_is_not_in_the_state(tmp_path):
    """Training goes on in place while the state is written."""
    states, x, numbers = StateWriter(tmp_path, 1, WORLD), torch.zeros(1_000_000), {"best": {"step": 3}}
    states.save(1, {"x": x}, numbers)
    x.fill_(7.0)
    numbers["best"]["step"] = 4
    states.close()
    path, _, saved = newest_state(tmp_path, SILENT)
    y = torch.full((1_000_000,), 9.0)
    read_tensors(path, {"x": y}, WORLD)
    assert not y.any()
    assert saved == {"best": {"step": 3}}


def damage_by_cutting(path):
    shard = path / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1])


def damage_a_bit(path):
    shard = path / "__0_0.distcp"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))


def damage_a_number(path):
    facts = path / "state.json"
    facts.write_text(facts.read_text().replace('"cursor": 11', '"cursor": 12'))


DAMAGES = {
    "cut": (damage_by_cutting, r"__0_0.distcp has [\d,]+ bytes of"),
    "bit": (damage_a_bit, "__0_0.distcp does not agree with its checksum"),
    "number": (damage_a_number, "state.json does not agree with its checksum"),
    "no shard": (lambda path: (path / "__0_0.distcp").unlink(), "No such file"),
    "no index": (lambda path: (path / ".metadata").unlink(), "No such file"),
    "no facts": (lambda path: (path / "state.json").unlink(), "No such file"),
    "no JSON": (lambda path: (path / "state.json").write_text('{"step": 1'), "Expecting"),
    "other JSON": (lambda path: (path / "state.json").write_text("[1]"), "damaged"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_state_is_named_and_the_one_before_it_is_taken(kind, tmp_path, capsys):
    written(tmp_path, (5, 10))
    damage, reason = DAMAGES[kind]
    damage(tmp_path / "step-000000010")
    path, step, _ = newest_state(tmp_path, Reporter(stream=sys.stderr))
    assert (path.name, step, read_x(path)) == ("step-000000005", 5, [5.0, 5.0])
    told = capsys.readouterr().err
    assert f"warning: {tmp_path / 'step-000000010'} is damaged" in told
    assert re.search(reason, told)
    assert "going back to the state before it" in told


def test_a_damaged_state_never_outlives_a_whole_one(tmp_path):
    """With one state kept, going back to step 5 and saving step 7 must not leave the damaged step 10 alone."""
    written(tmp_path, (5, 10))
    damage_a_bit(tmp_path / "step-000000010")
    written(tmp_path, (7,), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000007"]
    assert newest_state(tmp_path, SILENT)[1] == 7


def test_a_half_written_state_has_no_name_and_is_removed_at_the_next_start(tmp_path):
    written(tmp_path, (5,))
    (tmp_path / ".step-000000010.tmp").mkdir()
    (tmp_path / ".step-000000010.tmp" / "__0_0.distcp").write_bytes(b"half")
    assert newest_state(tmp_path, SILENT)[1] == 5
    StateWriter(tmp_path, 2, WORLD).close()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


def test_a_state_of_another_network_is_refused(tmp_path):
    written(tmp_path, (5,))
    path = tmp_path / "step-000000005"
    with pytest.raises(RunError, match=r"does not fit this run \(Missing key.*y.*start in a new folder"):
        read_tensors(path, {"y": torch.zeros(2)}, WORLD)
    with pytest.raises(RunError, match=r"does not fit this run \(.*[Ss]ize mismatch"):
        read_tensors(path, {"x": torch.zeros(3)}, WORLD)


def test_states_of_the_layout_before_are_refused(tmp_path):
    (tmp_path / "step-000000010.pt").write_bytes(b"old")
    with pytest.raises(RunError, match=r"a state as umbel wrote them before 0\.2; start this run anew"):
        newest_state(tmp_path, SILENT)


def test_a_full_disk_leaves_the_earlier_states(tmp_path, monkeypatch):
    written(tmp_path, (5,), keep=1)

    def full(self, plan, planner):
        (Path(self.path) / "__0_0.distcp").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileSystemWriter, "write_data", full)
    with pytest.raises(OutputError, match="the disk is full: free some space"):
        written(tmp_path, (10,), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]
    assert read_x(tmp_path / "step-000000005") == [5.0, 5.0]


def test_metrics_are_rewound_to_the_state(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [{"kind": "train", "step": step} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + '{"kind": "tr')
    assert rewind_metrics(path, 2) == records[:2]
    assert read_metrics(path) == records[:2]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2: not JSON"):
        read_metrics(path)


CHILD = """
import resource, signal, sys, torch
from pathlib import Path
from toys import toy_run
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import OutputError
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.train.processes import World
from umbel.train.state import StateWriter

folder, model = Path(sys.argv[1]), new_model(toy_run().model, 256, 0)
states = StateWriter(folder / "state", 1, World(torch.device("cpu")))
states.save(5, {"x": torch.zeros(1)}, {})
states.wait()
save_checkpoint(folder / "checkpoint", model, hf_tokenizer(KmerTokens(1), 256))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for save in (
    lambda: (states.save(10, {"x": torch.zeros(100_000)}, {}), states.wait()),
    lambda: save_checkpoint(folder / "checkpoint", model, hf_tokenizer(KmerTokens(1), 256)),
):
    try:
        save()
    except OutputError as error:
        print(error)
"""


def test_a_disk_that_really_refuses_is_told_though_torch_and_safetensors_hide_it(tmp_path):
    """A limit on file size stands for the full disk: both writers fail midway, with errors of their own."""
    here = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *here])}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert all("is larger than this system allows" in line and "Earlier output is untouched" in line for line in lines)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000000005"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "state"]
    assert (tmp_path / "checkpoint" / "model.safetensors").stat().st_size > 20_000
