import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toys import toy_run

from umbel.errors import CheckpointError
from umbel.model.hf import new_model
from umbel.train.ema import Ema


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 3))


def wander(model, seed):
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draws))


def test_the_average_is_the_weighted_mean_of_all_weights_after_updates():
    model = network()
    ema, seen = Ema(model, decay=0.8), []
    for step in range(1, 6):
        wander(model, step)
        ema.update()
        seen.append({name: p.detach().clone().double() for name, p in model.named_parameters()})
        counts = [0.8 ** (step - i) for i in range(1, step + 1)]
        for name, average in ema.weights().items():
            wanted = sum(c * w[name] for c, w in zip(counts, seen, strict=True)) / sum(counts)
            torch.testing.assert_close(average.double(), wanted, rtol=1e-6, atol=1e-6)
    assert ema.n_updates == 5


def test_after_one_update_the_average_is_the_weights_and_before_it_those_of_the_start():
    model = network()
    ema = Ema(model, decay=0.999)
    begin = [p.detach().clone() for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ema.weights().values(), begin, strict=True))
    wander(model, 1)
    assert all(torch.equal(a, b) for a, b in zip(ema.weights().values(), begin, strict=True))
    ema.update()
    assert all(torch.equal(a, p) for a, p in zip(ema.weights().values(), model.parameters(), strict=True))


def test_without_decay_the_average_is_the_last_weights():
    model = network()
    ema = Ema(model, decay=0.0)
    for step in range(3):
        wander(model, step)
        ema.update()
    assert all(torch.equal(a, p) for a, p in zip(ema.weights().values(), model.parameters(), strict=True))


def test_it_goes_on_as_torch_does_once_the_start_is_forgotten():
    model = network()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    wander(model, 1)
    theirs.update_parameters(model)  # the first update copies
    ema = Ema(model, decay=0.9)
    ema.load(dict(theirs.module.named_parameters()), n_updates=10_000)
    for step in range(2, 9):
        wander(model, step)
        theirs.update_parameters(model)
        ema.update()
    for average, wanted in zip(ema.weights().values(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(average, wanted.detach(), rtol=1e-5, atol=1e-6)


def test_swapped_weights_come_back_bit_for_bit_also_after_an_error():
    model = new_model(toy_run().model, 256, 0).eval()
    ema, ids = Ema(model, decay=0.5), torch.tensor([[0, 7, 8, 9, 10, 1]])
    for step in range(2):
        wander(model, step)
        ema.update()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        plain = model(ids).logits
        with ema.in_place_of_weights():
            assert all(torch.equal(p, ema.weights()[name]) for name, p in model.named_parameters())
            averaged = model(ids).logits
        again = model(ids).logits
    assert torch.equal(plain, again) and not torch.allclose(plain, averaged, atol=1e-3)
    with pytest.raises(MemoryError), ema.in_place_of_weights():
        raise MemoryError
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_averages_of_half_precision_weights_are_wide():
    model = network().to(torch.bfloat16)
    ema = Ema(model, decay=0.9)
    for step in range(4):
        wander(model, step)
        ema.update()
    average = ema.weights()["0.weight"]
    assert average.dtype == torch.float32 and not torch.equal(average, average.bfloat16().float())
    before = [p.detach().clone() for p in model.parameters()]
    with ema.in_place_of_weights():
        assert torch.equal(model[0].weight, average.bfloat16())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_a_saved_average_goes_on_to_the_same_bits(tmp_path):
    models, averages = [network(), network()], []
    for step in range(3):
        wander(models[0], step)
        if step == 0:
            first = Ema(models[0], decay=0.9)
        first.update()
    torch.save({"weights": first.weights(), "n": first.n_updates}, tmp_path / "ema.pt")
    saved = torch.load(tmp_path / "ema.pt", weights_only=True)
    models[1].load_state_dict(models[0].state_dict())
    second = Ema(models[1], decay=0.9)
    second.load(saved["weights"], saved["n"])
    for model, ema in zip(models, (first, second), strict=True):
        wander(model, 9)
        ema.update()
        averages.append(ema.weights())
    assert all(torch.equal(averages[0][name], value) for name, value in averages[1].items())


def test_an_average_of_another_network_is_refused():
    ema = Ema(network(), decay=0.9)
    weights = ema.weights() | {"1.bias": torch.zeros(4), "2.bias": torch.zeros(1)}
    del weights["0.bias"]
    wanted = r"of another network: 3 of its parameters differ \(0\.bias missing, 1\.bias \(4,\), 2\.bias \(1,\)\)"
    with pytest.raises(CheckpointError, match=wanted):
        ema.load(weights, 3)
    assert ema.n_updates == 0


def sharded_average():
    """Average cut up weights; give the averages, and the outputs around a swap."""
    dist.init_process_group("gloo")
    try:
        model = network()
        # The first layer belongs to the root, which keeps its weights whole after a forward pass alone.
        fully_shard(model[1])
        fully_shard(model)
        ema = Ema(model, decay=0.7)
        for step in range(3):
            draws = torch.Generator().manual_seed(step)
            with torch.no_grad():
                for parameter in model.parameters():
                    change = torch.randn(parameter.shape, generator=draws)
                    parts = change.chunk(2)[dist.get_rank()] if dist.get_rank() < len(change.chunk(2)) else change[:0]
                    parameter.to_local().add_(parts)
            ema.update()
        assert all(isinstance(average, DTensor) for average in ema.weights().values())
        x, outputs = torch.linspace(-1, 1, 6).view(2, 3), []
        with torch.no_grad():
            outputs.append(model(x).numpy())
            with ema.in_place_of_weights():
                outputs.append(model(x).numpy())
            outputs.append(model(x).numpy())
        return {name: average.full_tensor().numpy() for name, average in ema.weights().items()}, outputs
    finally:
        dist.destroy_process_group()


def test_two_processes_with_cut_up_parameters_average_and_swap_as_one():
    model = network()
    ema = Ema(model, decay=0.7)
    for step in range(3):
        wander(model, step)
        ema.update()
    x = torch.linspace(-1, 1, 6).view(2, 3)
    with torch.no_grad():
        plain = model(x)
        with ema.in_place_of_weights():
            averaged = model(x)
    assert not torch.allclose(plain, averaged, atol=0.1)
    for averages, outputs in run_ranks(sharded_average, 2):
        for name, average in ema.weights().items():
            assert torch.equal(torch.from_numpy(averages[name]), average)
        for got, wanted in zip(outputs, (plain, averaged, plain), strict=True):
            torch.testing.assert_close(torch.from_numpy(got), wanted)
