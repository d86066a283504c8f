import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import toy_run
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from umbel.config import OptimConfig
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import CheckpointError
from umbel.model.checkpoint import load_checkpoint, save_checkpoint
from umbel.model.hf import new_model
from umbel.model.placement import SpanPlacement
from umbel.train.optim import make_optimizers

ROWS = torch.tensor(
    [
        [0, -1, 0, -2, 0, -3, 0, 2, 2, 0, 3, 3, 0, 1, 1, 0],
        [0, 0, -1, -2, 0, 2, 2, 2, 0, 1, 0, 0, 0, 0, 0, 0],
        [0] * 16,
    ]
)


def by_hand(head, hidden, placement):
    """Losses and verdicts by plain loops, in the order of rows and gaps."""
    losses, right = [], []
    hidden, query, key = (x.detach().numpy().astype(np.float64) for x in (hidden, head.query.weight, head.key.weight))
    for h, row in zip(hidden, placement.numpy(), strict=True):
        n = -row.min()
        keys = [key @ h[row == -j][0] for j in range(1, n + 1)]
        for j in range(1, n + 1):
            q = query @ h[row == j].mean(0)
            scores = np.array([q @ k for k in keys]) / np.sqrt(len(q))
            losses.append(np.log(np.exp(scores).sum()) - scores[j - 1])
            right.append(bool(scores.argmax() == j - 1))
    return losses, right


def test_losses_by_plain_loops():
    torch.manual_seed(0)
    head, hidden = SpanPlacement(6), 3 * torch.randn(3, 16, 6)
    placed = head(hidden, ROWS)
    losses, right = by_hand(head, hidden, ROWS)
    assert len(losses) == 5
    assert placed.losses.tolist() == pytest.approx(losses, rel=1e-5)
    assert placed.is_right.tolist() == right
    assert 0 < sum(right) < 5


def test_rows_without_spans_have_no_loss_and_no_gradient():
    head, hidden = SpanPlacement(6), torch.randn(2, 16, 6, requires_grad=True)
    placed = head(hidden, ROWS[2:].repeat(2, 1))
    assert placed.losses.shape == (0,)
    placed.losses.sum().backward()
    assert not hidden.grad.any()


def test_the_loss_is_float32_under_autocast():
    torch.manual_seed(0)
    head, hidden = SpanPlacement(6), torch.randn(3, 16, 6)
    with torch.autocast("cpu", torch.bfloat16):
        placed = head(hidden.bfloat16(), ROWS)
    assert placed.losses.dtype == torch.float32
    assert placed.losses.tolist() == pytest.approx(head(hidden.bfloat16().float(), ROWS).losses.tolist(), rel=1e-6)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    head, hidden = SpanPlacement(3).double(), torch.randn(3, 16, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: head(x, ROWS).losses, (hidden,))


def test_a_model_has_the_head_only_if_told_to_and_is_the_same_otherwise():
    plain, placing = new_model(toy_run().model, 256, 3), new_model(toy_run().model, 256, 3, placement=True)
    assert plain.placement is None
    theirs = placing.state_dict()
    assert theirs.keys() - plain.state_dict().keys() == {"placement.query.weight", "placement.key.weight"}
    assert all(torch.equal(value, theirs[key]) for key, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="no head of span placement: make it with placement=True"):
        plain(torch.tensor([[0, 5, 1, 7, 1]]), placement=torch.tensor([[0, -1, 0, 1, 0]]))


def test_the_projections_are_decayed_as_others_are():
    model = new_model(toy_run().model, 256, 3, placement=True)
    decayed = make_optimizers(model, OptimConfig())[0].param_groups[0]["params"]
    assert all(any(p is q for q in decayed) for p in model.placement.parameters())


def test_a_checkpoint_with_the_head_loads_in_every_class(tmp_path, capfd):
    model = new_model(toy_run().model, 256, 3, placement=True)
    save_checkpoint(tmp_path, model, hf_tokenizer(KmerTokens(1), 256))
    ids, placement = torch.tensor([[0, 7, 5, 8, 5, 9, 1, 7, 8, 1, 9, 9, 1]]), torch.zeros(1, 13, dtype=torch.long)
    placement[0, [2, 4]] = torch.tensor([-1, -2])
    placement[0, 7:9], placement[0, 10:12] = 2, 1
    with torch.no_grad():
        wanted = model.eval()(ids, placement=placement)
        for loaded in (load_checkpoint(tmp_path), AutoModelForMaskedLM.from_pretrained(tmp_path).eval()):
            got = loaded(ids, placement=placement)
            assert torch.equal(got.logits, wanted.logits)
            assert torch.equal(got.placed.losses, wanted.placed.losses)
            assert got.placed.losses.shape == (2,)
            assert loaded(ids).placed is None
        backbone = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.equal(backbone(ids).last_hidden_state, model.backbone(ids).hidden)
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    told = capfd.readouterr()
    assert "UNEXPECTED" not in told.out + told.err
    weights = load_file(tmp_path / "model.safetensors")
    assert {"placement.query.weight", "placement.key.weight"} < weights.keys()


def test_a_head_that_is_missing_in_the_file_is_named(tmp_path):
    from safetensors.torch import save_file

    save_checkpoint(tmp_path, new_model(toy_run().model, 256, 3, placement=True), hf_tokenizer(KmerTokens(1), 256))
    weights = load_file(tmp_path / "model.safetensors")
    del weights["placement.key.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 keys do not fit: missing placement.key.weight"):
        load_checkpoint(tmp_path)
