import pytest
import torch
from ranks import run_ranks

from umbel.errors import BackendError, ConfigError, RunError
from umbel.train.processes import World, join_world


def add_up():
    with join_world("cpu") as world:
        total = world.sums(torch.tensor([world.rank + 0.5, 1e-9]))
        first = world.first(lambda: f"rank {world.rank}")
        try:
            world.first(lambda: (_ for _ in ()).throw(RunError("the folder is taken")))
        except RunError as error:
            return total.tolist(), first, str(error), (world.rank, world.size, world.local_rank, world.local_size)
    return None


def test_processes_add_up_and_hear_of_the_first_ones_result_and_error():
    for rank, (total, first, error, place) in enumerate(run_ranks(add_up, 3)):
        assert total == [0.5 + 1.5 + 2.5, pytest.approx(3e-9, rel=1e-6)]
        assert first == "rank 0"
        assert error == "the folder is taken"
        assert place == (rank, 3, rank, 3)


def test_a_process_alone_needs_nobody(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with join_world("cpu") as world:
        values = torch.tensor([1.0, 2.0])
        total = world.sums(values)
        total += 1
        assert values.tolist() == [1.0, 2.0], "a copy"
        assert world.is_first and world.size == 1
    assert not torch.distributed.is_initialized()


def test_damaged_variables_and_missing_devices_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    told = r"environment variable WORLD_SIZE is 'two', and torchrun sets it to a whole number"
    with pytest.raises(ConfigError, match=told), join_world():
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("umbel.train.processes.resolve_device", torch.device)
    told = "--device cuda:0 names one GPU, and 2 processes need one each"
    with pytest.raises(ConfigError, match=told), join_world("cuda:0"):
        pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    told = "2 processes on a machine with 1 GPUs: start torchrun with --nproc-per-node 1"
    with pytest.raises(BackendError, match=told), join_world("cuda"):
        pass


def test_sums_are_in_float64():
    world = World(torch.device("cpu"))
    assert world.sums(torch.tensor([1], dtype=torch.int64)).dtype is torch.float64
