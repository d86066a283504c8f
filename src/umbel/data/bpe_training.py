"""Learn the words of a DNA vocabulary from a corpus: same corpus and settings, same bytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, trainers
from transformers import PreTrainedTokenizerFast

import umbel
from umbel.data.bpe import FIXED, STRETCH_BP, BpeTokens
from umbel.data.corpus.store import Corpus
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizer_parts import dressed, pieces_of
from umbel.data.vocabulary import SPECIAL_TOKENS
from umbel.errors import ConfigError, CorpusError, InputError, RunError
from umbel.files import whole_folder, write_json
from umbel.genome.sequence import decode, revcomp
from umbel.progress import Reporter, reporter_or_silent

FACTS_FILE = "tokenizer.facts.json"
FORMAT = "umbel-tokenizer"
LEAST_SIZE = 16

_MEASURED_WINDOWS, _MEASURED_BP = 256, 2_000_000
_LONGEST_K = 6


def train_bpe(
    corpus: str | Path,
    out: str | Path,
    *,
    vocab_size: int = 4096,
    max_bases: int = 50_000_000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Learn a vocabulary from the windows of role ``train``, and write it as a folder that ``AutoTokenizer`` loads.

    The windows come in an order drawn from the seed, each as one strand, drawn too. The folder gets
    ``tokenizer.json``, ``tokenizer_config.json`` and ``tokenizer.facts.json``, whole or not at all.

    Parameters
    ----------
    corpus
        Folder made by :func:`umbel.build_corpus`.
    out
        Folder to make. If it already holds the vocabulary of the same corpus and settings, it is left as it is.
    vocab_size
        Tokens to have, the twelve fixed ones among them; fewer are made where no pair of tokens occurs twice.
    max_bases
        Windows are taken until they hold this many bases; each takes about 90 bytes of memory.
    seed
        What decides windows and strands.
    reporter
        Where progress goes.

    Returns
    -------
    What ``tokenizer.facts.json`` holds; ``bases_per_token`` is measured on windows of role ``valid`` (``train`` where
    there are none), beside the k-mers of every k.

    Raises
    ------
    ConfigError
        If ``vocab_size`` is below 16, or ``max_bases`` or ``seed`` make no sense.
    CorpusError
        If the corpus is missing or damaged, or nothing can be learnt from it.
    RunError
        If ``out`` holds something else.
    OutputError
        If the disk is full or not ours to write to.
    """
    if vocab_size < LEAST_SIZE:
        raise ConfigError(f"the vocabulary is to have {vocab_size} tokens: give at least {LEAST_SIZE}, 12 are fixed")
    if max_bases < 1 or seed < 0:
        raise ConfigError(f"max_bases is {max_bases} and seed {seed}: give at least one base, and a seed from 0 on")
    reporter, target, source = reporter_or_silent(reporter), Path(out), Corpus.open(corpus)
    inputs = {
        "corpus": source.hash,
        "settings": {"vocab_size": vocab_size, "max_bases": max_bases, "seed": seed, "stretch_bp": STRETCH_BP},
    }
    if (done := _already_trained(target, inputs)) is not None:
        reporter.say(f"{out}: already made from the same corpus and settings")
        return done
    window_ids, reverse, n_bases = _drawn(source, max_bases, seed)
    tokens = _learn(source, window_ids, reverse, n_bases, vocab_size, reporter)
    facts = {
        "format": FORMAT,
        "umbel": umbel.__version__,
        **inputs,
        "sha256": tokens.sha256,
        "vocab_size": tokens.size,
        "longest_word_bp": int(tokens.lengths.max()),
        "learnt_from": {"windows": len(window_ids), "bases": n_bases},
        **_measure(source, tokens),
    }
    with whole_folder(target) as temporary:
        # No sequence has more tokens than bases.
        dressed(tokens.backend(), source.config.window_bp + 2, PreTrainedTokenizerFast).save_pretrained(temporary)
        write_json(temporary / FACTS_FILE, facts)
    return facts


def _already_trained(target: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Give the facts of ``target`` if it holds this very vocabulary; refuse it if it holds anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        facts = json.loads((target / FACTS_FILE).read_text(encoding="utf-8"))
        same = all(facts[key] == value for key, value in inputs.items())
        whole = not same or BpeTokens.read(target).sha256 == facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{target}: exists, and is no vocabulary of ours (no {FACTS_FILE}). Choose another -o."
        ) from error
    except InputError as error:
        raise RunError(f"{target}: damaged ({error}) Choose another -o, or remove it first.") from error
    if not whole:
        raise RunError(f"{target}: damaged, its words were changed. Choose another -o, or remove it first.")
    if not same:
        raise RunError(f"{target}: holds a vocabulary of another corpus or other settings. Choose another -o.")
    return facts


def _drawn(corpus: Corpus, max_bases: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw windows up to ``max_bases``, the strand of each, and count their bases."""
    draws = np.random.Generator(np.random.Philox(key=seed))
    window_ids = draws.permutation(corpus.window_ids("train"))
    windows = (corpus.window(int(i)) for i in window_ids)
    bases = np.cumsum([window.end - window.start for window in windows])
    count = min(int(np.searchsorted(bases, max_bases)) + 1, len(bases))
    return window_ids[:count], draws.random(count) < 0.5, int(bases[count - 1])


def _learn(
    corpus: Corpus, window_ids: np.ndarray, reverse: np.ndarray, n_bases: int, vocab_size: int, reporter: Reporter
) -> BpeTokens:
    task = reporter.start("reading", n_bases, "bases")

    def texts() -> Iterator[str]:
        for window_id, reversed_ in zip(window_ids.tolist(), reverse.tolist(), strict=True):
            codes, _ = corpus.read_window(window_id)
            yield decode(revcomp(codes) if reversed_ else codes)
            task.advance(len(codes))
        reporter.say(
            f"learning {vocab_size - len(FIXED):,} words of {n_bases / 1e6:,.1f} million bases: about 2 s a million"
        )

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pieces_of(STRETCH_BP)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list("ACGTN"),
        show_progress=False,
    )
    try:
        _hearing_interrupts(lambda: learner.train_from_iterator(texts(), trainer))
    finally:
        task.close()
    model = json.loads(learner.to_str())["model"]
    words = [word for word in sorted(model["vocab"], key=model["vocab"].get) if word not in FIXED]
    if not words:
        raise CorpusError(f"{corpus.path}: no word to learn, because no two bases occur beside each other twice.")
    return BpeTokens([*FIXED, *words], [(left, right) for left, right in model["merges"]])


def _hearing_interrupts(work: Callable[[], None]) -> None:
    """Do ``work`` in a thread: the main one hears Ctrl-C, which minutes of Rust would keep from it."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            work()
            outcome.set_result(None)
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    outcome.result()


def _measure(corpus: Corpus, tokens: BpeTokens) -> dict[str, Any]:
    """Bases per token on evenly spaced windows, of the learnt words and of every k-mer."""
    role = "valid" if len(corpus.window_ids("valid")) else "train"
    window_ids = corpus.window_ids(role)
    count = max(1, min(_MEASURED_WINDOWS, _MEASURED_BP // corpus.config.window_bp))
    window_ids = window_ids[np.unique(np.linspace(0, len(window_ids) - 1, count).astype(int))]
    kinds: dict[str, BpeTokens | KmerTokens] = {
        "bpe": tokens,
        **{f"{k}-mer": KmerTokens(k) for k in range(1, _LONGEST_K + 1)},
    }
    n_windows, n_bases, n_tokens = 0, 0, dict.fromkeys(kinds, 0)
    for window_id in window_ids.tolist():
        codes, _ = corpus.read_window(window_id)
        if len(codes) < _LONGEST_K:
            continue
        n_windows, n_bases = n_windows + 1, n_bases + len(codes)
        for name, kind in kinds.items():
            n_tokens[name] += len(kind.encode(codes).ids) - 2
    return {
        "measured_on": {"role": role, "windows": n_windows, "bases": n_bases},
        "bases_per_token": {name: round(n_bases / max(1, count), 4) for name, count in n_tokens.items()},
    }
