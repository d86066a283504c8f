"""Packed assemblies on disk for the tests of this folder."""

import numpy as np

from umbel.data.corpus.pieces import PackedAssembly
from umbel.genome.sequence import pack


def random_bases(length, seed=0):
    return np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)


def mutated(codes, n_frac, seed=0):
    """Substitute a share of the bases by another one."""
    rng = np.random.default_rng(seed)
    changed = codes.copy()
    hit = rng.random(len(codes)) < n_frac
    changed[hit] = (changed[hit] + rng.integers(1, 4, hit.sum())) % 4
    return changed


def write_packed(path, contigs, name="toy", content="", soft=None):
    """Write contigs (code arrays) as a .nibbles file; ``soft`` holds a mask for each."""
    places, offset = [], 0
    with open(path, "wb") as handle:
        for number, codes in enumerate(contigs):
            mask = np.zeros(len(codes), bool) if soft is None else soft[number]
            packed = pack(codes, mask)
            handle.write(packed.tobytes())
            places.append((len(codes), offset))
            offset += len(packed)
    return PackedAssembly(name, path, tuple(places), content)
