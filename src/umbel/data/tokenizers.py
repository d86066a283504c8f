"""The published single-nucleotide tokens, and the Hugging Face tokenizer that makes them from text."""

from __future__ import annotations

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from umbel.config import TokensConfig
from umbel.data.kmers import KmerTokens
from umbel.data.vocabulary import BASE_ID, CLS_ID, SEP_ID, SPECIAL_TOKENS

VOCABULARY = (*SPECIAL_TOKENS, "A", "C", "G", "T", "N")
Tokens = KmerTokens


def make_tokens(config: TokensConfig) -> Tokens:
    """Make the tokens that a run asks for."""
    return KmerTokens(config.k, config.overlapping)


def codes_to_ids(codes: np.ndarray) -> np.ndarray:
    """Frame base codes as a model input: ``[CLS]``, the bases, ``[SEP]``.

    Parameters
    ----------
    codes
        ``(L,)`` integers 0..4 for A, C, G, T, N.

    Returns
    -------
    ``(L + 2,)`` int64 token ids.

    Examples
    --------
    >>> codes_to_ids(np.array([0, 3, 4])).tolist()
    [0, 7, 10, 11, 1]
    """
    ids = np.empty(len(codes) + 2, np.int64)
    ids[0], ids[-1] = CLS_ID, SEP_ID
    ids[1:-1] = codes
    ids[1:-1] += BASE_ID
    return ids


def nucleotide_tokenizer(window_bp: int) -> PreTrainedTokenizerFast:
    """Make the tokenizer that is saved beside a model: one base a token, ids as published.

    Lower case is a base (soft-masked genomes stay readable), every IUPAC ambiguity letter is ``N``,
    anything else is ``[UNK]``. Padding is on the right, and the attention mask always comes along.

    Parameters
    ----------
    window_bp
        Longest sequence the model was trained on, in bases; ``model_max_length`` is 2 more.

    Examples
    --------
    >>> nucleotide_tokenizer(512)("ACgtnR").input_ids
    [0, 7, 8, 9, 10, 11, 11, 1]
    """
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    upper = [normalizers.Replace(letter.lower(), letter) for letter in "ACGT"]
    ambiguous = normalizers.Replace(Regex("[RYSWKMBDHVUryswkmbdhvun]"), "N")
    tokenizer.normalizer = normalizers.Sequence([*upper, ambiguous])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS_ID), ("[SEP]", SEP_ID)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[BOS]",
        mask_token="[MASK]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=window_bp + 2,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
    )
