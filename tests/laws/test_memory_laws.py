"""What a command holds in memory does not grow with its input."""

import subprocess
import sys

import numpy as np
import pytest

from umbel.config import ModelConfig
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model

PEAK = """
import sys
from pathlib import Path
import torch
import umbel
from umbel.predict.scan import ScanSettings
torch.set_num_threads(1)
model, warm, fasta, out = sys.argv[1:]
settings = ScanSettings(check_tokens=0)
umbel.load(model, "cpu").scan_embeddings(warm, out + ".warm", settings=settings)
umbel.load(model, "cpu").scan_embeddings(fasta, out, settings=settings)
# Not getrusage: its maximum is inherited from the process that started this one.
line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
print(line.split()[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_contig(tmp_path):
    config = ModelConfig(pattern="Hd", n_layers=4, d_model=128, d_state=16, ffn_hidden=256)
    checkpoint = tmp_path / "model"
    save_checkpoint(checkpoint, new_model(config, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    rng, peaks = np.random.default_rng(0), []
    warm, fasta = tmp_path / "warm.fa", tmp_path / "in.fa"
    warm.write_text(">x\n" + "ACGT" * 100)
    for length in (15_000, 150_000):
        fasta.write_text(">x\n" + "".join(rng.choice(list("ACGT"), length)))
        words = [sys.executable, "-c", PEAK, checkpoint, warm, fasta, tmp_path / f"{length}"]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.2 * peaks[0], peaks


BUILD_PEAK = """
import sys
from pathlib import Path
from umbel.config import CorpusConfig
from umbel.data.corpus.build import build_corpus
warm, manifest, out = sys.argv[1:]
config = CorpusConfig(window_bp=4096, min_n50_bp=0)
build_corpus(warm, out + ".warm", config, memory_gb=0.1)
build_corpus(manifest, out, config, memory_gb=0.1)
line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
print(line.split()[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_assembly(tmp_path):
    """One contig on one line, its repeats found by its own k-mers, its copies by sketches."""
    rng, peaks = np.random.default_rng(0), []

    def write(name, length):
        letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, length, np.uint8)]
        letters[length // 2 : length // 2 + 20_000] = letters[:20_000]
        (tmp_path / f"{name}.fa").write_bytes(b">chr1\n" + letters.tobytes() + b"\n")
        manifest = tmp_path / f"{name}.toml"
        manifest.write_text(
            f'[[assembly]]\nspecies = "S"\nassembly = "a"\nfasta = "{name}.fa"\nrepeat_mask = "kmer"\n'
            'contigs.train = ["*"]\n'
        )
        return manifest

    warm = write("warm", 60_000)
    for length in (30_000_000, 90_000_000):
        words = [sys.executable, "-c", BUILD_PEAK, warm, write(f"a{length}", length), tmp_path / f"{length}"]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]))
    # The bases that came to it are 60 MB as letters alone, and 480 MB as k-mers.
    assert peaks[1] <= peaks[0] + 50_000, peaks
