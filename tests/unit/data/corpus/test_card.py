import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from planted import SEGMENT_BP, write_planted_project

from umbel.config import CorpusConfig, DuplicatesConfig
from umbel.data.corpus import card
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.card import effective_number, in_bp, render_card, write_card
from umbel.errors import BackendError

CONFIG = CorpusConfig(window_bp=512, overlap_bp=64, duplicates=DuplicatesConfig(segment_bp=SEGMENT_BP, scaled=16))


class Text(HTMLParser):
    """The words of a page, and whether every tag is closed."""

    VOID = frozenset({"meta", "br", "link"})

    def __init__(self, page):
        super().__init__()
        self.words, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data.strip())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    return build_corpus(write_planted_project(folder), folder / "c", CONFIG, card=True)


def words(page):
    parsed = Text(page)
    assert not parsed.open
    return " ".join(word for word in parsed.words if word)


def test_the_page_tells_what_the_description_has(corpus):
    text = words((corpus.path / "corpus.html").read_text())
    assert "Corpus of 2 species" in text and corpus.hash in text
    for row in corpus.facts["waterfall"]:
        assert row["species"] in text and row["family"] in text
        for fate, amount in row["fates"].items():
            if amount:
                assert fate in text and in_bp(amount) in text
    for row in corpus.facts["duplicates"]["removed"]:
        assert in_bp(row["n_bases"]) in text
    assert "no licence told" in text
    # Both assemblies are of short contigs, and each is the best of its species or above the limit.
    decisions = [decision for told in corpus.facts["assemblies"] for decision in told["decisions"]]
    assert all(decision in text for decision in decisions)
    assert ("Every assembly was taken" in text) == (not decisions)


def test_the_page_needs_nothing_from_outside_and_is_the_same_every_time(corpus, tmp_path):
    page = (corpus.path / "corpus.html").read_text()
    assert not re.search(r"(?:src|href)=[\"']?(?:http|//)|@import|url\(http", page)
    write_card(corpus.facts, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page
    assert page.count("<svg") == 3


def test_it_is_drawn_only_when_asked_for_and_is_no_part_of_the_checksums(corpus, tmp_path):
    assert "corpus.html" not in corpus.facts["files"]
    plain = build_corpus(write_planted_project(tmp_path), tmp_path / "c", CONFIG)
    assert not (plain.path / "corpus.html").exists() and plain.hash == corpus.hash


def test_names_from_files_are_text_and_not_markup(corpus):
    facts = json.loads(json.dumps(corpus.facts))
    facts["assemblies"][0]["licence"] = "<script>alert(1)</script>"
    page = render_card(facts)
    assert "<script" not in page and "&lt;script&gt;" in page


def test_without_copies_or_windows_the_page_says_so(tmp_path):
    manifest = write_planted_project(tmp_path)
    config = replace(CONFIG, duplicates=replace(CONFIG.duplicates, ani=0.0))
    facts = build_corpus(manifest, tmp_path / "c", config).facts
    text = words(render_card(facts))
    assert "Copies were not looked for" in text and "No sketches were made" in text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        *((0, "0"), (1, "1 bp"), (999, "999 bp"), (1_000, "1.00 kbp"), (12_345, "12.3 kbp"), (999_499, "999 kbp")),
        *((999_500, "1.00 Mbp"), (123_456_789, "123 Mbp"), (17e9, "17.0 Gbp"), (3e15, "3000 Tbp")),
    ],
)
def test_bases_are_written_with_three_digits(amount, text):
    assert in_bp(amount) == text


def test_the_effective_number_of_equal_species_is_their_number():
    assert effective_number([7] * 5) == pytest.approx(5)
    assert effective_number([0, 0]) == 0.0
    assert effective_number([99, 1]) == pytest.approx(1.0576, abs=1e-4)


def test_missing_packages_are_named(monkeypatch, corpus, tmp_path):
    monkeypatch.setattr(card, "find_spec", lambda name: None if name == "matplotlib" else object())
    with pytest.raises(BackendError, match=r"the data card needs matplotlib: pip install 'umbel\[train\]'"):
        write_card(corpus.facts, tmp_path / "x.html")
    with pytest.raises(BackendError, match="needs matplotlib"):
        build_corpus(tmp_path / "none.toml", tmp_path / "c", CONFIG, card=True)
