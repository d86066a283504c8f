"""Laws of sequences and of corpora built from them."""

import contextlib
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import write_toy_project

import umbel.files
from umbel.config import CorpusConfig
from umbel.data.corpus import packing, parts
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.windows import cut_windows
from umbel.genome.interval import Interval
from umbel.genome.sequence import IUPAC, complement, decode, encode, pack, revcomp, reverse, unpack

texts = st.text(alphabet=IUPAC + IUPAC.lower(), max_size=200)
code_arrays = st.lists(st.integers(0, 4), max_size=200).map(lambda codes: np.array(codes, np.uint8))


@given(code_arrays)
def test_revcomp_is_an_involution_and_both_of_its_parts(codes):
    assert np.array_equal(revcomp(revcomp(codes)), codes)
    assert np.array_equal(revcomp(codes), reverse(complement(codes)))
    assert np.array_equal(revcomp(codes), complement(reverse(codes)))


@given(texts, st.data())
def test_unpacking_any_slice_gives_what_was_packed(text, data):
    codes, soft_mask, _ = encode(text.encode())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    read_codes, read_mask = unpack(pack(codes, soft_mask), start, end)
    assert np.array_equal(read_codes, codes[start:end])
    assert np.array_equal(read_mask, soft_mask[start:end])


@given(texts)
def test_decode_of_encode_is_the_text_with_ambiguity_as_n_and_case_kept(text):
    codes, soft_mask, letters = encode(text.encode())
    plain = "".join(x if x in "ACGTacgt" else "N" if x.isupper() else "n" for x in text)
    assert decode(codes, soft_mask) == plain
    assert decode(codes) == plain.upper()
    assert sum(letters.values()) == plain.upper().count("N")


@given(
    st.text(string.ascii_letters + string.digits + ":.|-_", min_size=1), st.integers(0, 10**10), st.integers(1, 10**6)
)
def test_interval_text_round_trip(contig, start, length):
    for strand in "+-":
        interval = Interval(contig, start, start + length, strand)
        assert Interval.parse(str(interval)) == interval


@given(st.integers(1, 20_000), st.integers(129, 3_000), st.integers(64, 128), st.integers(1, 400))
def test_windows_cover_a_contig_without_gaps_up_to_a_counted_tail(length, window_bp, overlap_bp, min_window_bp):
    config = CorpusConfig(window_bp, overlap_bp, 0.02, min_window_bp)
    windows, n_lost = cut_windows(length, config)
    covered = np.zeros(length, int)
    for start, end in windows:
        assert min(config.min_window_bp, window_bp) <= end - start <= window_bp
        covered[start:end] += 1
    assert (covered[: length - n_lost] >= 1).all() and not covered[length - n_lost :].any()
    assert n_lost < max(min_window_bp, 1)
    steps = np.diff(windows[:, 0])
    assert (steps == window_bp - overlap_bp).all()
    # No window lies wholly inside the one before it.
    assert (np.diff(windows[:, 1]) > 0).all()


def folder_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_do_not_change_the_bytes(tmp_path):
    manifest = write_toy_project(tmp_path / "in", n_assemblies=3)
    config = CorpusConfig(window_bp=512)
    one = build_corpus(manifest, tmp_path / "one", config, workers=1)
    two = build_corpus(manifest, tmp_path / "two", config, workers=2)
    assert folder_bytes(one.path) == folder_bytes(two.path)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that umbel catches."""


def dying_after(n_calls, patch, *places):
    """Count calls of the functions at ``places`` together, and let every one beyond ``n_calls`` raise."""
    left = [n_calls]

    def dying(plain):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return plain(*args, **kwargs)

        return call

    for module, name in places:
        patch.setattr(module, name, dying(getattr(module, name)))


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 40))
def test_stopping_at_any_write_does_not_change_the_bytes(n_calls):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        manifest = write_toy_project(folder / "in", n_assemblies=2)
        config = CorpusConfig(window_bp=512)
        whole = folder_bytes(build_corpus(manifest, folder / "whole", config).path)
        dying_after(n_calls, patch, (umbel.files.os, "replace"), (packing.pq, "write_table"), (parts, "sha256_file"))
        # A killed process tidies nothing.
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with contextlib.suppress(Killed):
            build_corpus(manifest, folder / "corpus", config)
        patch.undo()
        assert folder_bytes(build_corpus(manifest, folder / "corpus", config).path) == whole
        assert {path.name for path in folder.iterdir()} == {"in", "whole", "corpus"}
