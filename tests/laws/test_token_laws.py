"""Laws of tokens: what text gives, what codes give and what a plain loop gives are one; nothing is lost on the way."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from umbel.data.bpe import FIXED, STRETCH_BP, BpeTokens
from umbel.data.bpe_training import train_bpe
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer, load_tokens
from umbel.data.vocabulary import SPECIAL_TOKENS
from umbel.genome.sequence import decode, encode

KMERS = {f"{k}-mers": (k, False) for k in range(1, 7)} | {f"overlapping {k}-mers": (k, True) for k in range(2, 7)}
texts = st.text(alphabet="ACGTACGTacgtNnRyKmU", min_size=1, max_size=70)
examples = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def bpe(toy_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bpe") / "words"
    train_bpe(toy_corpus.path, folder, vocab_size=200)
    return BpeTokens.read(folder)


@pytest.fixture(scope="module", params=[*KMERS, "bpe"])
def kind(request, bpe, tmp_path_factory):
    """Give tokens, their Hugging Face tokenizer, and that tokenizer saved and loaded."""
    tokens = bpe if request.param == "bpe" else KmerTokens(*KMERS[request.param])
    tokenizer = hf_tokenizer(tokens, 256)
    folder = tmp_path_factory.mktemp("saved")
    tokenizer.save_pretrained(folder)
    return tokens, tokenizer, AutoTokenizer.from_pretrained(folder)


def canonical(text):
    """Upper case, and every letter that is no base as N."""
    return "".join(letter if letter in "ACGT" else "N" for letter in text.upper())


def shortest(tokens):
    return tokens.k if isinstance(tokens, KmerTokens) else 1


def runs(text):
    """Starts and ends of the stretches without N, and of every N."""
    start = 0
    while start < len(text):
        end = start + 1
        while text[start] != "N" and end < len(text) and text[end] != "N":
            end += 1
        yield start, end
        start = end


def kmers_by_loops(text, k, overlapping):
    words = {w: i for i, w in enumerate([*SPECIAL_TOKENS, *"ACGTN"])}
    for n in range(2, k + 1):
        for letters in itertools.product("ACGT", repeat=n):
            words["".join(letters)] = len(words)
    spans = []
    for start, end in runs(text):
        if overlapping and end - start >= k:
            spans += [(first, first + k) for first in range(start, end - k + 1)]
        else:
            spans += [(first, min(first + k, end)) for first in range(start, end, k)]
    return [words[text[start:end]] for start, end in spans], spans


def bpe_by_loops(text, words, merges):
    """Join, again and again, the pair that was learnt first, wherever it stands, from the left."""
    ids, spans = [], []
    for start, end in runs(text):
        for first in range(start, end, STRETCH_BP):
            parts = list(text[first : min(first + STRETCH_BP, end)])
            while known := [pair for pair in itertools.pairwise(parts) if pair in merges]:
                best = min(known, key=merges.index)
                place = next(i for i, pair in enumerate(itertools.pairwise(parts)) if pair == best)
                parts[place : place + 2] = ["".join(best)]
            for part in parts:
                ids.append(words.index(part))
                spans.append((first, first + len(part)))
                first += len(part)
    return ids, spans


def assert_all_agree(kind, text):
    tokens, tokenizer, loaded = kind
    plain = canonical(text)
    codes, _, _ = encode(text.encode())
    encoding = tokens.encode(codes)
    if isinstance(tokens, KmerTokens):
        ids, spans = kmers_by_loops(plain, tokens.k, tokens.overlapping)
    else:
        ids, spans = bpe_by_loops(plain, tokens.words, tokens.merges)
    assert encoding.ids.tolist() == [0, *ids, 1]
    assert list(zip(encoding.starts.tolist(), encoding.ends.tolist(), strict=True)) == [
        (0, 0),
        *spans,
        (len(text), len(text)),
    ]
    assert decode(tokens.decode(encoding.ids)) == plain
    for made in (tokenizer, loaded):
        built = made(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        assert built.input_ids == [0, *ids, 1]
        assert built.offset_mapping == [(0, 0), *spans, (0, 0)]
        assert built.special_tokens_mask == [1] + [0] * len(ids) + [1]
        assert made.decode(built.input_ids, skip_special_tokens=True) == plain


@examples
@given(texts)
def test_text_codes_and_plain_loops_agree_and_decode_to_the_sequence(kind, text):
    if len(text) >= shortest(kind[0]):
        assert_all_agree(kind, text)


def test_every_tail_length_before_an_n_and_before_the_end(kind):
    rng = np.random.default_rng(0)
    for tail, gap in itertools.product(range(14), repeat=2):
        text = (
            "".join(rng.choice(list("ACGTacgt"), 6 + gap)) + "N" * (gap % 3) + "".join(rng.choice(list("ACGT"), tail))
        )
        assert_all_agree(kind, text)


def test_long_stretches_are_cut_where_the_definition_says(kind):
    rng = np.random.default_rng(1)
    for length in (STRETCH_BP - 1, STRETCH_BP, STRETCH_BP + 1, 2 * STRETCH_BP + 3):
        assert_all_agree(kind, "".join(rng.choice(list("ACGT"), length)) + "NACGTACG")


@examples
@given(texts)
def test_every_base_has_its_token(kind, text):
    tokens = kind[0]
    codes, _, _ = encode(text.encode())
    if len(codes) >= shortest(tokens):
        encoding = tokens.encode(codes)
        place = encoding.token_of_base(len(codes))
        assert (encoding.starts[place] <= np.arange(len(codes))).all()
        assert (encoding.ends[place] > np.arange(len(codes))).all()
        assert np.array_equal(encoding.ends - encoding.starts, tokens.lengths[encoding.ids])


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_on_either_side_comes_with_its_masks(kind, side):
    """Defect D-10 of the released tokenizer: a special-tokens mask of another length than the ids."""
    for made in kind[1:]:
        batch = made(["ACGTNACGTTGA", "ACG"], padding=True, padding_side=side, return_special_tokens_mask=True)
        alone = made("ACG")
        n_pad = len(batch.input_ids[0]) - len(alone.input_ids)
        pads, zeros = [4] * n_pad, [0] * n_pad
        assert n_pad > 0
        ids, mask = batch.input_ids[1], batch.attention_mask[1]
        assert ids == (alone.input_ids + pads if side == "right" else pads + alone.input_ids)
        assert mask == ([1] * len(alone.input_ids) + zeros if side == "right" else zeros + [1] * len(alone.input_ids))
        for row, special in zip(batch.input_ids, batch.special_tokens_mask, strict=True):
            assert special == [int(i < 7) for i in row]
            assert made.get_special_tokens_mask(row, already_has_special_tokens=True) == special
        assert made.model_input_names == ["input_ids", "attention_mask"]


def test_special_tokens_in_text_and_unknown_letters(kind):
    for made in kind[1:]:
        ids = made("AC[MASK]T-Nac").input_ids
        assert made.convert_ids_to_tokens(ids)[2 if len(ids) == 8 else 3] == "[MASK]"
        assert made.convert_tokens_to_ids("[MASK]") == made.mask_token_id == 3
        assert made.decode(ids) == "[CLS]AC[MASK]T[UNK]NAC[SEP]"
        assert made.decode(ids, skip_special_tokens=True) == "ACTNAC"


def test_a_description_gives_the_tokens_back(kind, tmp_path):
    tokens, tokenizer, _ = kind
    tokenizer.save_pretrained(tmp_path)
    codes = np.random.default_rng(2).integers(0, 5, 300)
    again = load_tokens(tmp_path, describe(tokens))
    assert type(again) is type(tokens)
    assert np.array_equal(again.encode(codes).ids, tokens.encode(codes).ids)
    assert again.size == tokens.size == len(tokens.words) == len(tokens.lengths) == len(tokenizer)


def test_words_are_where_masking_draws_them(kind):
    tokens = kind[0]
    words = tokens.words[tokens.first_word : tokens.first_word + tokens.n_words]
    assert len(words) == tokens.n_words > 0
    assert not set("".join(words)) - set("ACGT")
    if isinstance(tokens, KmerTokens):
        assert list(words) == ["".join(letters) for letters in itertools.product("ACGT", repeat=tokens.k)]
    else:
        assert tokens.words[: tokens.first_word] == FIXED
        assert tokens.first_word + tokens.n_words == tokens.size
