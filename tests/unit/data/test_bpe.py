"""Learnt words: what a vocabulary is, what is refused, and that training is a function of corpus and settings."""

import json
import pickle

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from toys import toy_sequences
from transformers import AutoTokenizer

import umbel
from umbel.config import TokensConfig
from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.bpe_training import FACTS_FILE, train_bpe
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import describe, hf_tokenizer, load_tokens, make_tokens
from umbel.errors import CheckpointError, ConfigError, CorpusError, InputError, OutputError, RunError

TOKENS = BpeTokens([*FIXED, "AC", "ACG", "TT"], [("A", "C"), ("AC", "G"), ("T", "T")])


@pytest.fixture
def folder(tmp_path):
    hf_tokenizer(TOKENS, 256).save_pretrained(tmp_path / "words")
    return tmp_path / "words"


def change(folder, edit):
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))


def test_a_file_or_its_folder_gives_the_vocabulary_back(folder):
    for path in (folder, folder / "tokenizer.json"):
        read = make_tokens(TokensConfig(kind="bpe", file=str(path)))
        assert (read.words, read.merges, read.sha256) == (TOKENS.words, TOKENS.merges, TOKENS.sha256)
    assert pickle.loads(pickle.dumps(TOKENS)).encode(np.array([0, 1, 2])).ids.tolist() == [0, 13, 1]


def test_a_tokenizer_that_has_padded_is_still_the_same_file(folder):
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded(["ACGT", "A"], padding=True, truncation=True, max_length=4)
    loaded.save_pretrained(folder)
    assert BpeTokens.read(folder).sha256 == TOKENS.sha256


def swap_special(told):
    vocabulary = told["model"]["vocab"]
    vocabulary["<pad>"] = vocabulary.pop("[PAD]")


def move_base(told):
    vocabulary = told["model"]["vocab"]
    vocabulary["T"], vocabulary["N"] = vocabulary["N"], vocabulary["T"]


def drop_merge(told):
    told["model"]["merges"].pop()


def other_word(told):
    vocabulary = told["model"]["vocab"]
    vocabulary["GG"] = vocabulary.pop("TT")


def unknown_part(told):
    told["model"]["merges"][1] = ["A", "CG"]


def drop_words(told):
    told["model"]["merges"].clear()
    for word in TOKENS.words[12:]:
        del told["model"]["vocab"][word]


def with_n(told):
    told["model"]["vocab"]["AN"] = 15
    told["model"]["merges"].append(["A", "N"])


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (swap_special, "id 4 is '<pad>', must be '[PAD]'"),
        (move_base, "id 10 is 'N', must be 'T'"),
        (drop_merge, "its merges do not make its words"),
        (other_word, "its merges do not make its words"),
        (unknown_part, "its merges do not make its words"),
        (drop_words, "it has no words of two bases or more"),
        (with_n, "'AN' is no word of two or more of A, C, G and T"),
        (lambda told: told["model"]["vocab"].update(GG=99), "its ids are not 0, 1, 2 and so on"),
        (lambda told: told.update(pre_tokenizer=None), "its pre_tokenizer is another"),
        (lambda told: told.update(normalizer={"type": "Lowercase"}), "its normalizer is another"),
        (lambda told: told["model"].update(dropout=0.1), "its model is another"),
        (lambda told: told.pop("model"), "no 'model'"),
    ],
)
def test_another_vocabulary_is_refused_by_file_and_problem(folder, edit, problem):
    change(folder, edit)
    with pytest.raises(InputError) as caught:
        BpeTokens.read(folder)
    assert str(caught.value) == (
        f"{folder / 'tokenizer.json'}: not a DNA vocabulary of umbel: {problem}. "
        "Give a file made by umbel tokenizer train."
    )


def test_english_k_mers_damaged_and_missing_files_are_refused(tmp_path):
    english = Tokenizer(models.BPE(unk_token="[UNK]"))
    english.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    english.train_from_iterator(["the umbel is a flower head and the stalks spring from one point"] * 9, trainer)
    path = tmp_path / "tokenizer.json"
    english.save(str(path))
    with pytest.raises(InputError, match=r"id 0 is '\[UNK\]', must be '\[CLS\]'"):
        BpeTokens.read(path)
    hf_tokenizer(make_tokens(TokensConfig(k=3)), 256).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its model is WordLevel, not BPE"):
        BpeTokens.read(path)
    for damage in ('{"model": {', '"text"', "[]", "\x00\xff"):
        path.write_text(damage, encoding="latin-1")
        with pytest.raises(InputError, match=r"tokenizer.json: (damaged, not readable|not a DNA vocabulary)"):
            BpeTokens.read(path)
    with pytest.raises(InputError, match=r"nowhere/tokenizer.json: cannot be read: No such file or directory"):
        make_tokens(TokensConfig(kind="bpe", file=str(tmp_path / "nowhere" / "tokenizer.json")))


def test_ids_and_sequences_without_bases_are_refused():
    with pytest.raises(ValueError, match="a sequence of 0 bases has no tokens"):
        TOKENS.encode(np.array([], np.uint8))
    with pytest.raises(ValueError, match=r"token 3 at 1 \(\[MASK\]\) stands for no bases"):
        TOKENS.decode([0, 3, 1])
    with pytest.raises(ValueError, match=r"token 15 at 0 \(not in the vocabulary\)"):
        TOKENS.decode([15])
    assert TOKENS.decode([]).tolist() == []


def test_a_checkpoint_refuses_another_vocabulary(folder, toy_corpus, tmp_path):
    told = describe(TOKENS)
    assert load_tokens(folder, told).sha256 == TOKENS.sha256
    train_bpe(toy_corpus.path, tmp_path / "other", vocab_size=20)
    with pytest.raises(CheckpointError, match=r"other/tokenizer.json is not the one this model was trained with"):
        load_tokens(tmp_path / "other", told)
    with pytest.raises(CheckpointError, match=r"the vocabulary of this model is not there. .*cannot be read"):
        load_tokens(tmp_path, told)
    change(folder, swap_special)
    with pytest.raises(CheckpointError, match="not a DNA vocabulary"):
        load_tokens(folder, told)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"kind": "words"},
        {"kind": "kmer", "k": 9},
        {"kind": "kmer", "k": "3"},
        {"kind": "kmer", "k": 3, "n": 1},
        {"kind": "bpe"},
        {"kind": "bpe", "sha256": "0", "k": 3},
    ],
)
def test_a_damaged_description_is_refused(folder, told):
    with pytest.raises(CheckpointError, match=r"config.json: tokens are not described as umbel does it"):
        load_tokens(folder, told)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_corpus_and_settings_same_bytes(toy_corpus, tmp_path, monkeypatch):
    facts = train_bpe(toy_corpus.path, tmp_path / "a", vocab_size=100, max_bases=3_000, seed=5)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    train_bpe(toy_corpus.path, tmp_path / "b", vocab_size=100, max_bases=3_000, seed=5)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for changed in ({"vocab_size": 60}, {"max_bases": 2_000}, {"seed": 6}):
        settings = {"vocab_size": 100, "max_bases": 3_000, "seed": 5, **changed}
        assert train_bpe(toy_corpus.path, tmp_path / str(changed), **settings)["sha256"] != facts["sha256"]


def test_the_facts_say_what_was_read_and_how_long_tokens_are(toy_corpus, tmp_path):
    facts = train_bpe(toy_corpus.path, tmp_path / "words", vocab_size=100, max_bases=3_000)
    assert json.loads((tmp_path / "words" / FACTS_FILE).read_text()) == facts
    assert (facts["corpus"], facts["umbel"], facts["vocab_size"]) == (toy_corpus.hash, umbel.__version__, 100)
    assert 3_000 <= facts["learnt_from"]["bases"] < 3_000 + 256
    tokens = BpeTokens.read(tmp_path / "words")
    assert facts["sha256"] == tokens.sha256
    assert facts["longest_word_bp"] == max(len(word) for word in tokens.words[12:])
    corpus = Corpus.open(toy_corpus.path)
    windows = [corpus.read_window(int(i))[0] for i in corpus.window_ids("valid")]
    assert facts["measured_on"] == {"role": "valid", "windows": len(windows), "bases": sum(map(len, windows))}
    n_tokens = sum(len(tokens.encode(codes).ids) - 2 for codes in windows)
    assert facts["bases_per_token"]["bpe"] == pytest.approx(sum(map(len, windows)) / n_tokens, abs=1e-4)
    assert facts["bases_per_token"]["1-mer"] == 1
    assert AutoTokenizer.from_pretrained(tmp_path / "words").model_max_length == 258


def test_the_motif_of_the_corpus_is_learnt_on_both_strands(toy_corpus, tmp_path):
    train_bpe(toy_corpus.path, tmp_path / "words", vocab_size=400)
    words = BpeTokens.read(tmp_path / "words").words
    assert toy_sequences()["chr1|toy"].upper().count("TTAGGGACCATG") > 10
    assert any("TAGGGACCAT" in word for word in words)
    assert any("ATGGTCCCTA" in word for word in words)


def test_a_finished_folder_is_left_and_any_other_refused(toy_corpus, tmp_path):
    out = tmp_path / "words"
    facts = train_bpe(toy_corpus.path, out, vocab_size=30)
    before = files(out)
    assert train_bpe(toy_corpus.path, out, vocab_size=30) == facts
    with pytest.raises(RunError, match="holds a vocabulary of another corpus or other settings"):
        train_bpe(toy_corpus.path, out, vocab_size=31)
    assert files(out) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for target in (tmp_path / "notes", tmp_path / "notes" / "a.txt"):
        with pytest.raises(RunError, match="exists, and is no vocabulary of ours"):
            train_bpe(toy_corpus.path, target, vocab_size=30)
    assert files(tmp_path / "notes") == {"a.txt": b"mine"}
    change(out, swap_special)
    with pytest.raises(RunError, match="words: damaged"):
        train_bpe(toy_corpus.path, out, vocab_size=30)


def test_wrong_settings_write_nothing(toy_corpus, tmp_path, monkeypatch):
    out = tmp_path / "words"
    with pytest.raises(ConfigError, match="15 tokens: give at least 16, 12 are fixed"):
        train_bpe(toy_corpus.path, out, vocab_size=15)
    for wrong in ({"max_bases": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="give at least one base, and a seed from 0 on"):
            train_bpe(toy_corpus.path, out, **wrong)
    with pytest.raises(CorpusError, match="no corpus here"):
        train_bpe(tmp_path, out)
    with pytest.raises(CorpusError, match="no word to learn"):
        monkeypatch.setattr(Corpus, "read_window", lambda self, i: (np.full(9, 4, np.uint8), np.zeros(9, bool)))
        train_bpe(toy_corpus.path, out)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(toy_corpus, tmp_path, monkeypatch):
    import errno

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("umbel.data.bpe_training.write_json", full)
    with pytest.raises(OutputError, match="the disk is full"):
        train_bpe(toy_corpus.path, tmp_path / "words", vocab_size=30)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_reading_comes_through_whole(toy_corpus, tmp_path, monkeypatch):
    def damaged(self, i):
        raise CorpusError("truncated")

    monkeypatch.setattr(Corpus, "read_window", damaged)
    with pytest.raises(CorpusError, match="truncated"):
        train_bpe(toy_corpus.path, tmp_path / "words", vocab_size=30)
    assert list(tmp_path.iterdir()) == []
