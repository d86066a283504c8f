import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_run
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from umbel.data.kmers import KmerTokens
from umbel.data.overlapping import UmbelOverlappingTokenizer
from umbel.data.tokenizers import describe, hf_tokenizer, load_tokens, require_vocabulary
from umbel.errors import CheckpointError, ConfigError
from umbel.genome.sequence import encode
from umbel.model.checkpoint import export_released, load_checkpoint, save_checkpoint
from umbel.model.hf import new_model

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
    assert TOKENIZER(text).input_ids == KmerTokens(1).encode(codes).ids.tolist()


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
    assert KmerTokens(1).encode(np.array([0, 1, 2, 3, 4], np.uint8)).ids.tolist() == [0, 7, 8, 9, 10, 11, 1]


@pytest.mark.parametrize("k", range(1, 7))
def test_a_sequence_shorter_than_one_k_mer_is_refused_for_a_model_and_one_word_for_text(k):
    with pytest.raises(ValueError, match=f"a sequence of {k - 1} bases is shorter than one {k}-mer; give at least {k}"):
        KmerTokens(k).encode(np.zeros(k - 1, np.uint8))
    for overlapping in (False, True):
        assert len(hf_tokenizer(KmerTokens(k, overlapping), 256)("A" * (k - 1)).input_ids) == (2 if k == 1 else 3)


def test_the_longest_input_is_that_of_a_window_without_n():
    for tokens in (KmerTokens(1), KmerTokens(3), KmerTokens(6), KmerTokens(6, overlapping=True)):
        assert hf_tokenizer(tokens, 100).model_max_length == len(tokens.encode(np.zeros(100, np.uint8)).ids)


def test_a_model_needs_a_row_for_every_token():
    require_vocabulary(KmerTokens(3), 92)
    with pytest.raises(ConfigError, match=r"vocab_size is 12, and the tokens are 92: --set model.vocab_size=92"):
        require_vocabulary(KmerTokens(3), 12)


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    tokenizer, folder = hf_tokenizer(KmerTokens(3, overlapping=True), 256), tmp_path_factory.mktemp("overlapping")
    tokenizer.save_pretrained(folder)
    return tokenizer, folder


def test_overlapping_k_mers_survive_copies_and_saving_twice(overlapping, tmp_path):
    tokenizer, folder = overlapping
    wanted = tokenizer("acgtnACG[MASK]TTAG").input_ids
    assert len(wanted) == 9
    tokenizer.save_pretrained(tmp_path)
    for other in (
        copy.deepcopy(tokenizer),
        pickle.loads(pickle.dumps(tokenizer)),
        AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(tmp_path),
        tokenizer,
    ):
        assert type(other) is UmbelOverlappingTokenizer
        assert other("acgtnACG[MASK]TTAG").input_ids == wanted
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    batch = tokenizer(["ACGTACGT", "ACGT"], padding=True, truncation=True, max_length=5)
    assert batch.attention_mask == [[1] * 5, [1, 1, 1, 1, 0]]
    assert copy.deepcopy(tokenizer)("ACGT").input_ids == tokenizer("ACGT").input_ids


def test_without_our_class_overlapping_k_mers_are_right_or_an_error(overlapping):
    tokenizer, folder = overlapping
    plain = PreTrainedTokenizerFast.from_pretrained(folder)
    for text in ("A", "ac", "ACG", "N", "ACG[MASK]T"):
        assert plain(text).input_ids == tokenizer(text).input_ids
    for text in ("ACGT", "AN", "NN", "ACGTACGT", "Z"):
        with pytest.raises(Exception, match="Missing \\[UNK\\] token"):
            plain(text)
    code = (
        f"from transformers import AutoTokenizer\nmade = AutoTokenizer.from_pretrained({str(folder)!r})\n"
        "try: print(made('ACGT').input_ids)\nexcept Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Missing [UNK] token" in done.stdout
    done = subprocess.run([sys.executable, "-c", "import umbel\n" + code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tokenizer('ACGT').input_ids}\n"


@pytest.mark.parametrize("module", ["bpe_training", "overlapping", "tokenizers"])
def test_any_module_may_be_the_first_to_import_transformers(module):
    subprocess.run([sys.executable, "-c", f"import umbel.data.{module}"], check=True)


def test_a_checkpoint_remembers_its_tokens(tmp_path):
    tokens = KmerTokens(3)
    shape = replace(toy_run().model, vocab_size=tokens.size)
    save_checkpoint(tmp_path, new_model(shape, 256, 0, describe(tokens)), hf_tokenizer(tokens, 256))
    config = load_checkpoint(tmp_path).config
    assert load_tokens(tmp_path, config.tokens).size == 92
    with pytest.raises(CheckpointError, match=r'"k": 3.*the released layout holds single nucleotides only'):
        export_released(tmp_path, tmp_path / "released")
    assert not (tmp_path / "released").exists()
    assert (
        AutoTokenizer.from_pretrained(tmp_path)("ACGTA").input_ids
        == tokens.encode(np.array([0, 1, 2, 3, 0])).ids.tolist()
    )
    save_checkpoint(tmp_path, new_model(toy_run().model, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    assert load_tokens(tmp_path, load_checkpoint(tmp_path).config.tokens).size == 12
