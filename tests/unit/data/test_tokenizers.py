import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import codes_to_ids, hf_tokenizer
from umbel.genome.sequence import encode

TOKENIZER = hf_tokenizer(KmerTokens(1), 512)


def test_ids_are_the_published_ones():
    published = {"[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "[MASK]": 3, "[PAD]": 4, "[RESERVED]": 5, "[UNK]": 6}
    published |= {"A": 7, "C": 8, "G": 9, "T": 10, "N": 11}
    assert TOKENIZER.get_vocab() == published == {token: i for i, token in enumerate(KmerTokens(1).words)}


def test_lower_case_is_a_base_and_iupac_is_n():
    assert TOKENIZER("acgt").input_ids == TOKENIZER("ACGT").input_ids == [0, 7, 8, 9, 10, 1]
    assert TOKENIZER("RYSWKMBDHVUNn").input_ids == [0] + [11] * 13 + [1]
    assert TOKENIZER("A-Z").input_ids == [0, 7, 6, 6, 1]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text(alphabet="ACGTNacgtnRYKM", min_size=1, max_size=80))
def test_text_and_codes_give_the_same_ids(text):
    codes, _, _ = encode(text.encode())
    assert TOKENIZER(text).input_ids == codes_to_ids(codes).tolist()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text(alphabet="ACGTN", min_size=1, max_size=80))
def test_decoding_gives_the_bases_back(text):
    decoded = TOKENIZER.decode(TOKENIZER(text).input_ids, skip_special_tokens=True)
    assert decoded == text


def test_special_tokens_in_text_and_their_mask():
    ids = TOKENIZER("AC[MASK]T").input_ids
    assert ids == [0, 7, 8, 3, 10, 1]
    assert TOKENIZER.mask_token_id == 3
    built = TOKENIZER("ACG", return_special_tokens_mask=True)
    assert built["special_tokens_mask"] == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_comes_with_its_mask(side, tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, padding_side=side)
    batch = loaded(["ACGT", "A"], padding=True)
    row = [0, 7, 1, 4, 4, 4] if side == "right" else [4, 4, 4, 0, 7, 1]
    assert batch["input_ids"][1] == row
    assert batch["attention_mask"][1] == [int(i != 4) for i in row]
    assert loaded.model_input_names == ["input_ids", "attention_mask"]
    assert loaded.model_max_length == 514


def test_codes_are_framed():
    assert codes_to_ids(np.array([0, 1, 2, 3, 4], np.uint8)).tolist() == [0, 7, 8, 9, 10, 11, 1]
