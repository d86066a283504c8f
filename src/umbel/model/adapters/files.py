"""An adapter on disk, in PEFT's layout with a card, and back onto the base that it belongs to."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import field
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import umbel
from umbel.config.finetuning import AdapterConfig
from umbel.errors import AdapterError, ConfigError
from umbel.files import sha256_file, whole_folder, write_json
from umbel.model.adapters.attach import NAME, Adapter, expected_warnings, lora_config, wrap
from umbel.model.adapters.merge import merge
from umbel.model.adapters.targets import find_targets
from umbel.model.checkpoint import load_checkpoint, weights_hash
from umbel.model.hf import UmbelConfig, UmbelForMaskedLM, UmbelPreTrainedModel

FORMAT, FORMAT_VERSION = "umbel-adapter", 1
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, README_FILE = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "adapter_card.json",
    "README.md",
)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AdapterCard:
    """What one has to know of an adapter before using it.

    Attributes
    ----------
    species
        Of the data it was trained on.
    base
        Name of the base, for people.
    base_hash
        :func:`umbel.model.checkpoint.weights_hash` of the base: the adapter fits no other weights.
    data_hash
        Identifies the data: of labelled examples or of a corpus.
    taxid
        NCBI taxon of the species, where there is one.
    assembly
        Where the data come from one.
    task
        What it was trained for, such as the fields of :class:`umbel.data.labelled.task.Task`.
    metrics
        Name to number, or to any JSON: held-out metrics, and what was forgotten.
    """

    species: str
    base: str
    base_hash: str
    data_hash: str
    taxid: int | None = None
    assembly: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


def save_adapter(folder: str | Path, adapter: Adapter, card: AdapterCard) -> None:
    """Write an adapter and its head in PEFT's layout, ``adapter_card.json`` and a README; whole or not at all.

    ``peft.PeftModel.from_pretrained(model, folder)`` loads it onto a model of the same class. The base is not in it,
    and neither are buffers of the base: a router's ``load_bias`` must not be moved while an adapter is trained.

    Raises
    ------
    OutputError
        If the disk is full; a folder already there is as it was before.
    """
    model = cast(UmbelPreTrainedModel, adapter.model.get_base_model())
    adapter.model.peft_config[NAME].base_model_name_or_path = card.base
    with whole_folder(folder) as temporary, expected_warnings():
        adapter.model.save_pretrained(str(temporary), save_embedding_layers=False)
        facts = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "umbel": umbel.__version__,
            "card": dataclasses.asdict(card),
            "adapter": dataclasses.asdict(adapter.config)
            | {
                "rank": adapter.rank,
                "n_parameters": adapter.n_parameters,
                "n_base": adapter.n_base,
                "share_of_base": adapter.share,
                "description": adapter.describe(),
            },
            "model": {"class": type(model).__name__, "config": _config_values(model)},
            "weights_sha256": sha256_file(temporary / WEIGHTS_FILE),
        }
        write_json(temporary / CARD_FILE, facts)
        (temporary / README_FILE).write_text(_readme(adapter, card), encoding="utf-8")


def read_card(folder: str | Path) -> AdapterCard:
    """Read what an adapter's card says.

    Raises
    ------
    AdapterError
        If the folder is no adapter of ours, or the card is damaged.
    """
    return _card(_read_facts(Path(folder)), Path(folder))


def open_adapter(base: str | Path, folder: str | Path) -> Adapter:
    """Load an adapter onto its base, to train it on.

    Parameters
    ----------
    base
        Checkpoint or run folder of the base.
    folder
        What :func:`save_adapter` wrote.

    Raises
    ------
    AdapterError
        If the adapter belongs to another base, a file is missing or damaged, or a key is missing, unexpected or of
        another shape.
    CheckpointError
        If the base cannot be loaded.
    """
    folder = Path(folder)
    facts = _read_facts(folder)
    card, found = _card(facts, folder), weights_hash(base)
    if found != card.base_hash:
        raise AdapterError(
            f"{folder}: this adapter belongs to a base ({card.base}) with weights {card.base_hash}, and {base} has "
            f"weights {found}: give the base that it was trained on"
        )
    tensors = _read_tensors(folder, facts)
    try:
        told = dict(facts["adapter"])
        rank = int(told["rank"])
        config = AdapterConfig(**{f.name: told[f.name] for f in dataclasses.fields(AdapterConfig)} | {"rank": 0})
        config = dataclasses.replace(config, rank=rank)
        model = _model(load_checkpoint(base), facts["model"], folder)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise AdapterError(f"{folder / CARD_FILE}: damaged ({error})") from error
    targets = find_targets(model.backbone, config.targets)
    n_base = sum(p.numel() for p in model.backbone.parameters())
    wrapped = wrap(model, lora_config(model, targets, rank, config.scale))
    adapter = Adapter(wrapped, config, targets, rank, n_base)
    _fill(adapter, tensors, folder)
    return adapter


def load_adapter(base: str | Path, folder: str | Path, *, merged: bool = True) -> nn.Module:
    """Load an adapter onto its base for use: as a plain model of ours, or as PEFT's model around it.

    Parameters
    ----------
    merged
        Add the update to the weights: every fast path is open. Otherwise the adapter stays apart.

    Raises
    ------
    AdapterError, CheckpointError
        As :func:`open_adapter`.
    """
    adapter = open_adapter(base, folder)
    return merge(adapter) if merged else adapter.model.eval()


def _read_facts(folder: Path) -> dict[str, Any]:
    missing = [name for name in (CARD_FILE, CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise AdapterError(f"{folder}: no adapter of umbel's there, {', '.join(missing)} is missing")
    try:
        facts = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{folder / CARD_FILE}: damaged ({error})") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise AdapterError(f"{folder / CARD_FILE}: not the card of an umbel adapter")
    if facts.get("format_version") != FORMAT_VERSION:
        raise AdapterError(
            f"{folder}: written in adapter format {facts.get('format_version')}, and this umbel reads "
            f"{FORMAT_VERSION}: use the umbel that wrote it"
        )
    return facts


def _card(facts: dict[str, Any], folder: Path) -> AdapterCard:
    try:
        return TypeAdapter(AdapterCard).validate_python(facts.get("card"))
    except ValidationError as error:
        raise AdapterError(f"{folder / CARD_FILE}: damaged ({error.errors()[0]['msg']})") from error


def _read_tensors(folder: Path, facts: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path}: cannot be read ({error})") from error
    if sha256_file(path) != facts.get("weights_sha256"):
        raise AdapterError(f"{path}: these are not the weights that {CARD_FILE} describes: copy the whole folder again")
    return tensors


def _model(base: UmbelForMaskedLM, told: dict[str, Any], folder: Path) -> UmbelPreTrainedModel:
    """Make the adapter's kind of model around the base's backbone; its head gets its weights later."""
    config = UmbelConfig.from_dict(told["config"])
    if config.shape != base.config.shape:
        raise AdapterError(f"{folder / CARD_FILE}: the network it tells of has another shape than the base")
    if told["class"] == UmbelForMaskedLM.__name__:
        return base
    kinds = {kind.__name__: kind for kind in _subclasses(UmbelPreTrainedModel)}
    if told["class"] not in kinds:
        raise AdapterError(f"{folder / CARD_FILE}: this umbel has no model {told['class']!r}")
    with torch.random.fork_rng(devices=[]):
        return kinds[told["class"]](config, base.backbone)


def _subclasses(kind: type[UmbelPreTrainedModel]) -> list[type[UmbelPreTrainedModel]]:
    return [found for child in kind.__subclasses__() for found in (child, *_subclasses(child))]


@torch.no_grad()
def _fill(adapter: Adapter, tensors: dict[str, Tensor], folder: Path) -> None:
    from peft import get_peft_model_state_dict

    places = get_peft_model_state_dict(adapter.model, save_embedding_layers=False)
    problems = [f"missing {key}" for key in sorted(places.keys() - tensors.keys())]
    problems += [f"unexpected {key}" for key in sorted(tensors.keys() - places.keys())]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}, must be {tuple(place.shape)}"
        for key, place in places.items()
        if key in tensors and tensors[key].shape != place.shape
    ]
    if problems:
        raise AdapterError(f"{folder / WEIGHTS_FILE}: {len(problems)} keys do not fit: {'; '.join(problems)}")
    for key, place in places.items():
        place.copy_(tensors[key])


def _config_values(model: UmbelPreTrainedModel) -> dict[str, Any]:
    """Give the model's config without the folder that its base was loaded from."""
    values = json.loads(model.config.to_json_string(use_diff=True))
    return {name: value for name, value in values.items() if name not in ("_name_or_path", "name_or_path")}


def _readme(adapter: Adapter, card: AdapterCard) -> str:
    """Say it for people, with the front matter that model hubs read."""
    about = [
        ("species", f"{card.species}{'' if card.taxid is None else f' (NCBI taxon {card.taxid})'}"),
        ("assembly", card.assembly or "not told"),
        ("base", card.base),
        ("weights of the base, SHA-256", f"`{card.base_hash}`"),
        ("data, SHA-256", f"`{card.data_hash}`"),
        ("task", f"`{json.dumps(card.task)}`"),
        ("targets", ", ".join(adapter.config.targets)),
        ("made with", f"umbel {umbel.__version__}"),
    ]
    numbers = [(name, json.dumps(value)) for name, value in card.metrics.items()] or [("none", "")]
    return "\n".join(
        [
            "---",
            "library_name: peft",
            f"base_model: {json.dumps(card.base)}",
            "tags: [umbel, lora, dna]",
            "---",
            "",
            f"# An adapter for {card.species}",
            "",
            f"{adapter.describe().capitalize()}.",
            "",
            *_table("fact", "value", about),
            "",
            "## Metrics",
            "",
            *_table("metric", "value", numbers),
            "",
            "It fits the base with the hash above and no other: `umbel` refuses any other weights.",
            "",
        ]
    )


def _table(left: str, right: str, rows: list[tuple[str, str]]) -> list[str]:
    cells = [(a.replace("|", "\\|"), b.replace("|", "\\|")) for a, b in rows]
    return [f"| {left} | {right} |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in cells)]
