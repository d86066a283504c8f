"""What every Hugging Face tokenizer of ours shares: letters, framing and special tokens, around one model of words.

Nothing here imports transformers: our classes register themselves while transformers is imported, and need this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from umbel.data.vocabulary import CLS_ID, SEP_ID, SPECIAL_TOKENS

T = TypeVar("T")

_NAMED_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "bos_token": "[BOS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
}


def pieces_of(most: int) -> pre_tokenizers.PreTokenizer:
    """Cut text into runs of up to ``most`` bases without N; any other letter is a piece of its own.

    Examples
    --------
    >>> [piece for piece, _ in pieces_of(3).pre_tokenize_str("ACGTANNC")]
    ['ACG', 'TA', 'N', 'N', 'C']
    """
    return pre_tokenizers.Split(Regex(rf"[ACGT]{{1,{most}}}|[\s\S]"), "isolated")


def assemble(model: models.Model, pieces: pre_tokenizers.PreTokenizer | None) -> Tokenizer:
    """Make the part of a tokenizer that ``tokenizer.json`` holds.

    Lower case is a base (soft-masked genomes stay readable), and every IUPAC ambiguity letter is ``N``. Each of these
    changes keeps the number of letters, so offsets count the letters of the text as it was given.

    Parameters
    ----------
    model
        Pieces to ids.
    pieces
        Text to pieces that do not overlap, which are joined to decode them. None leaves text whole, and puts spaces
        between decoded tokens.
    """
    tokenizer = Tokenizer(model)
    upper = [normalizers.Replace(letter.lower(), letter) for letter in "ACGT"]
    ambiguous = normalizers.Replace(Regex("[RYSWKMBDHVUryswkmbdhvun]"), "N")
    tokenizer.normalizer = normalizers.Sequence([*upper, ambiguous])
    if pieces is not None:
        tokenizer.pre_tokenizer = pieces
        tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS_ID), ("[SEP]", SEP_ID)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def dressed(tokenizer: Tokenizer, model_max_length: int, kind: Callable[..., T]) -> T:
    """Give a tokenizer its Hugging Face outside: named special tokens, padding on the right with its mask.

    Parameters
    ----------
    kind
        The class, PreTrainedTokenizerFast or made from it.
    """
    return kind(
        tokenizer_object=tokenizer,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        **_NAMED_TOKENS,
    )
