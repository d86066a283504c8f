"""A planted rule learnt with transformers' own Trainer; its switch of activation checkpointing."""

import warnings

import numpy as np
import pytest
import torch
from toys import enlarge, toy_run
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import ConfigError
from umbel.model import inference
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import UmbelConfig, UmbelForMaskedLM, UmbelForSequenceClassification, new_model
from umbel.model.recomputation import checkpoint_blocks

TOKENIZER = hf_tokenizer(KmerTokens(1), 256)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_checkpoint(folder, new_model(toy_run().model, 256, seed=3), TOKENIZER)
    return folder


def sequences(n, seed):
    """Sequences of 12 to 40 bases, half of which are rich in A."""
    draws = np.random.default_rng(seed)
    for i in range(n):
        p = [0.55, 0.15, 0.15, 0.15] if i % 2 else [0.15, 0.15, 0.15, 0.55]
        yield "".join(draws.choice(list("ACGT"), draws.integers(12, 41), p=p)), i % 2


def of_sequences(n, seed):
    return [{**TOKENIZER(text), "labels": label} for text, label in sequences(n, seed)]


def of_bases(n, seed):
    """Each base is called purine or not."""
    return [
        {**TOKENIZER(text), "labels": [-100, *(int(letter in "AG") for letter in text), -100]}
        for text, _ in sequences(n, seed)
    ]


def accuracy(prediction):
    known = prediction.label_ids != -100
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids)[known].mean())}


def trained(model, data, collator, folder, **settings):
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=30,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=7,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=1,
        **settings,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data(160, 0),
        eval_dataset=data(41, 1),
        data_collator=collator,
        compute_metrics=accuracy,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("auto", "data", "collator"),
    [
        (AutoModelForSequenceClassification, of_sequences, DataCollatorWithPadding),
        (AutoModelForTokenClassification, of_bases, DataCollatorForTokenClassification),
    ],
)
def test_trainer_learns_a_planted_rule(auto, data, collator, base, tmp_path):
    torch.manual_seed(0)
    model = auto.from_pretrained(base, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    trainer = trained(model, data, collator(TOKENIZER), tmp_path)
    found = trainer.evaluate()
    assert found["eval_accuracy"] > 0.9
    trainer.save_model(tmp_path / "tuned")
    again = auto.from_pretrained(tmp_path / "tuned", local_files_only=True)
    assert again.config.id2label == {0: "no", 1: "yes"}
    batch = collator(TOKENIZER)(data(9, 2))
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(**batch).logits, model.eval()(**batch).logits, atol=1e-6, rtol=0)


def test_trainer_with_activation_checkpointing_gives_the_same_weights(base, tmp_path):
    name = (
        "activation_checkpointing"
        if hasattr(UmbelForMaskedLM, "activation_checkpointing_enable")
        else "gradient_checkpointing"
    )
    weights = []
    for settings in ({}, {name: True}):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        trained(model, of_sequences, DataCollatorWithPadding(TOKENIZER), tmp_path, **settings)
        assert all((block.training_way is not None) == bool(settings) for block in model.backbone.layers)
        weights.append(model.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def gradients(model):
    model.zero_grad()
    ids = torch.tensor([[0, 7, 8, 9, 10, 7, 1], [0, 9, 9, 10, 1, 4, 4]])
    output = model(ids, labels=torch.tensor([1, 0]))
    (output.loss + sum(routing.logits.square().sum() for routing in output.routings)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("every", [1, 2])
def test_the_switch_of_transformers_changes_no_gradient(every):
    model = enlarge(UmbelForSequenceClassification(UmbelConfig(shape=vars(toy_run().model))))
    wanted = gradients(model)
    with warnings.catch_warnings():
        # The name of transformers 5.0 to 5.22, which later ones still know.
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable(**({} if every == 1 else {"every_n_layers": every}))
        model.gradient_checkpointing_enable(**({} if every == 1 else {"every_n_layers": every}))
        assert model.is_gradient_checkpointing
        assert [block.training_way is not None for block in model.backbone.layers] == [True, every == 1]
        found = gradients(model)
        with torch.no_grad():
            assert inference.is_possible(model.backbone)
        model.gradient_checkpointing_disable()
        assert not model.is_gradient_checkpointing
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(block.training_way is None for block in model.backbone.layers)


def test_what_lies_below_the_trained_weights_needs_no_gradient():
    model = UmbelForSequenceClassification(UmbelConfig(shape=vars(toy_run().model)))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("backbone.layers.1.mixer")
    wanted = gradients(model)
    checkpoint_blocks(model)
    found = gradients(model)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_reentrant_kind_is_refused():
    model = UmbelForSequenceClassification(UmbelConfig(shape=vars(toy_run().model)))
    with (
        warnings.catch_warnings(),
        pytest.raises(ConfigError, match="use_reentrant=True gives experts' routings no gr"),
    ):
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": True})
