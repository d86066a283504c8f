"""The tokens of a run or a checkpoint, and the Hugging Face tokenizer that makes them from text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import models
from transformers import PreTrainedTokenizerFast

from umbel.config import TokensConfig
from umbel.data.bpe import TOKENIZER_FILE, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.overlapping import overlapping_tokenizer
from umbel.data.tokenizer_parts import assemble, dressed, pieces_of
from umbel.errors import CheckpointError, ConfigError, InputError

Tokens = KmerTokens | BpeTokens


def make_tokens(config: TokensConfig) -> Tokens:
    """Make the tokens that a run asks for.

    Raises
    ------
    InputError
        If ``tokens.file`` is missing, damaged, or another kind of tokenizer.

    Examples
    --------
    >>> make_tokens(TokensConfig(k=3)).size
    92
    """
    return BpeTokens.read(config.file) if config.kind == "bpe" else KmerTokens(config.k, config.overlapping)


def describe(tokens: Tokens) -> dict[str, Any]:
    """Say what ``config.json`` has to remember of the tokens, as :func:`load_tokens` takes it.

    Examples
    --------
    >>> describe(KmerTokens(6))
    {'kind': 'kmer', 'k': 6, 'overlapping': False}
    """
    if isinstance(tokens, BpeTokens):
        return {"kind": "bpe", "sha256": tokens.sha256}
    return {"kind": "kmer", "k": tokens.k, "overlapping": tokens.overlapping}


def load_tokens(folder: str | Path, told: Mapping[str, Any] | None) -> Tokens:
    """Make the tokens that a checkpoint was trained with.

    Parameters
    ----------
    folder
        The checkpoint; for learnt words its ``tokenizer.json`` is read.
    told
        What :func:`describe` said of them. None stands for single nucleotides, which older checkpoints and the
        released PlantBiMoE have.

    Raises
    ------
    CheckpointError
        If the description is damaged, or the vocabulary in the folder is missing, damaged or another one.

    Examples
    --------
    >>> load_tokens("anywhere", {"kind": "kmer", "k": 3, "overlapping": True}).size
    92
    """
    told = {"kind": "kmer", "k": 1, "overlapping": False} if told is None else dict(told)
    source = Path(folder)
    try:
        kind = told.pop("kind")
        if kind == "kmer":
            return KmerTokens(**told)
        (wanted,) = (told[key] for key in told if key == "sha256")
        if kind != "bpe" or len(told) > 1:
            raise ValueError
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source / 'config.json'}: tokens are not described as umbel does it") from error
    try:
        tokens = BpeTokens.read(source / TOKENIZER_FILE)
    except InputError as error:
        raise CheckpointError(f"{source}: the vocabulary of this model is not there. {error}") from error
    if tokens.sha256 != wanted:
        raise CheckpointError(
            f"the vocabulary in {source / TOKENIZER_FILE} is not the one this model was trained with. "
            "Copy the tokenizer.json of the training run back"
        )
    return tokens


def require_vocabulary(tokens: Tokens, vocab_size: int) -> None:
    """See that a model has a row for every token.

    Raises
    ------
    ConfigError
        Giving the number to set.
    """
    if vocab_size < tokens.size:
        raise ConfigError(
            f"model.vocab_size is {vocab_size}, and the tokens are {tokens.size}: --set model.vocab_size={tokens.size}"
        )


def hf_tokenizer(tokens: Tokens, window_bp: int) -> PreTrainedTokenizerFast:
    """Make the tokenizer that is saved beside a model; text gives the same ids and offsets as ``tokens.encode``.

    Lower case is a base (soft-masked genomes stay readable), every IUPAC ambiguity letter is ``N``,
    anything else is ``[UNK]``. Offsets count the letters of the text. Padding is on the right, and the attention mask
    always comes along. Where ``tokens.encode`` refuses a sequence shorter than k, this gives one shorter word.

    Parameters
    ----------
    window_bp
        Longest sequence the model was trained on, in bases. ``model_max_length`` is 2 more than the tokens of such
        a sequence without N; for learnt words, 2 more than its bases, which no sequence exceeds.

    Examples
    --------
    >>> hf_tokenizer(KmerTokens(1), 512)("ACgtnR").input_ids
    [0, 7, 8, 9, 10, 11, 11, 1]
    >>> hf_tokenizer(KmerTokens(3), 512)("ACgtn", return_offsets_mapping=True).offset_mapping
    [(0, 0), (0, 3), (3, 4), (4, 5), (0, 0)]
    """
    if isinstance(tokens, BpeTokens):
        return dressed(tokens.backend(), window_bp + 2, PreTrainedTokenizerFast)
    if tokens.overlapping:
        return overlapping_tokenizer(tokens, window_bp)
    model = models.WordLevel({word: i for i, word in enumerate(tokens.words)}, unk_token="[UNK]")
    return dressed(assemble(model, pieces_of(tokens.k)), -(-window_bp // tokens.k) + 2, PreTrainedTokenizerFast)
