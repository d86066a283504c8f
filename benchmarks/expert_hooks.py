"""Time the recording of other people's models against the forward pass of the same model without hooks, in one run.

Use: python benchmarks/expert_hooks.py -o OUT.json [--device cpu] [--quick]

Random weights, random tokens: the clock does not care. ``plain`` is the network alone on padded batches that are made
beforehand, and ``again`` the same once more: how far it is from ``plain`` is what the machine adds. ``hooked`` is the
same batches with the routers hooked, and every answer read to experts, weights, entropy and margin in arrays on the
CPU. ``reading`` is this reading alone, of answers that were kept. ``route`` is :meth:`HookedModel.route` on the texts,
so tokenizing, padding and cutting into sequences come on top. They take turns in every round; the ratio of a round is
of its own times. Processor time is compared too, which on a CPU others can slow but not stretch. Before the clock
starts, the experts of one router must be those with the highest logits that the model itself reports, else nothing is
written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

from umbel.evaluate.experts.hooked.model import HookedModel, _table
from umbel.evaluate.experts.hooked.recorder import Recorder

# Its threads would be counted, and would not help one text at a time.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

VOCABULARY = 1024
TOP_K = 8
LAYERS = 2
WIDTHS = {"cpu": (256, 512), "cuda": (1024, 2048)}
SHAPES = {"cpu": (8, 128), "cuda": (32, 512)}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>")


def network(width: int, n_experts: int) -> torch.nn.Module:
    config = CONFIG_MAPPING["olmoe"](
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width // 2,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 32,
        num_experts=n_experts,
        num_experts_per_tok=TOP_K,
        max_position_embeddings=4096,
        pad_token_id=0,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("gate.weight"):
            torch.nn.init.normal_(parameter, std=width**-0.5)
    return model


def cases(model: HookedModel, texts: list[str]) -> dict[str, Callable[[], object]]:
    items = [model._items(i, text) for i, text in enumerate(texts)]
    groups = model._groups([len(each.ids) for each in items])
    batches = [[items[i].ids for i in group] for group in groups]

    def plain() -> None:
        for batch in batches:
            model._run(batch)

    def hooked() -> None:
        for batch in batches:
            with Recorder([router.found for router in model._probe.routers]) as recorder:
                (n, width), _ = model._run(batch)
            for i, router in enumerate(model._probe.routers):
                _table(router.decide(recorder.calls(i)[0], n * width))

    kept = []
    for batch in batches:
        with Recorder([router.found for router in model._probe.routers]) as recorder:
            (n, width), _ = model._run(batch)
        kept.append((n * width, [recorder.calls(i)[0] for i in range(len(model._probe.routers))]))

    def reading() -> None:
        for rows, calls in kept:
            for router, call in zip(model._probe.routers, calls, strict=True):
                _table(router.decide(call, rows))

    def route() -> None:
        for _ in model.route(texts):
            pass

    return {"plain": plain, "route": route, "again": plain, "hooked": hooked, "reading": reading}


def with_processor_time(
    found: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    spent: dict[str, list[float]] = {name: [] for name in found}

    def counted(name: str, run: Callable[[], object]) -> Callable[[], object]:
        def wrapper() -> None:
            began = time.process_time()
            run()
            spent[name].append(time.process_time() - began)

        return wrapper

    clock = measure.in_turns({name: counted(name, run) for name, run in found.items()}, rounds, device)
    # The first was to warm up.
    return clock, {name: times[1:] for name, times in spent.items()}


def require_equal(model: HookedModel, text: str) -> None:
    (routed,) = model.route([text])
    ids = torch.from_numpy(routed.tokens.astype(np.int64))[None].to(model._device)
    with torch.inference_mode():
        logits = model._model(ids, output_router_logits=True).router_logits[0]
    wanted = logits.float().topk(TOP_K).indices.cpu().numpy()
    if (np.sort(wanted, 1) != np.sort(routed.sites[0].experts, 1)).any():
        sys.exit("the recorded experts are not those with the highest logits, so nothing is timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--commit")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    n_texts, n_words = (2, 32) if options.quick else SHAPES[device.type]
    rng = np.random.default_rng(0)
    lengths = rng.integers(n_words // 2, n_words + 1, n_texts)
    texts = [" ".join(f"w{i}" for i in rng.integers(2, VOCABULARY, n)) for n in lengths]
    results: dict[str, Any] = {"facts": measure.facts(device, options.commit), "layers": LAYERS, "top_k": TOP_K}
    results["tokens"], results["sequences"] = int(lengths.sum()), n_texts
    results["rows"] = {}
    for width in (64,) if options.quick else WIDTHS[device.type]:
        for n_experts in (64,) if options.quick else (16, 64):
            model = HookedModel(network(width, n_experts), tokenizer(), device=options.device)
            require_equal(model, texts[0])
            rounds = 2 if options.quick else options.rounds
            found, spent = with_processor_time(cases(model, texts), rounds, device)
            row = {name: measure.per_token(each, int(lengths.sum())) for name, each in found.items()}
            ratios: dict[str, Any] = {}
            for name in ("again", "hooked", "reading", "route"):
                ratios[f"{name}_over_plain"] = measure.ratio(found[name], found["plain"])
                if device.type == "cpu":
                    ratios[f"{name}_over_plain_processor_time"] = measure.ratio(spent[name], spent["plain"])
                    ratios[f"{name}_over_plain_least_processor_time"] = round(min(spent[name]) / min(spent["plain"]), 3)
            results["rows"][f"width {width}, {n_experts} experts"] = {"us_per_token": row, **ratios}
    measure.write(options.o, results)


if __name__ == "__main__":
    main()
