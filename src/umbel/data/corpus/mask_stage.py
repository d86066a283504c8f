"""Second stage of a build: the repeat mask of every assembly whose manifest asks for another than its FASTA has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from umbel.config import RepeatsConfig, to_dict
from umbel.data.corpus.executors import Advance
from umbel.data.corpus.masks import CountJob, MaskJob, apply_mask, count_repeats
from umbel.data.corpus.packing import checksums_of, write_checksums
from umbel.data.corpus.stages import Packed, Step, Workshop, do_step
from umbel.genome.repeats import read_repeats

_NEXT_TO_NOTHING = 0.01


def mask_stage(workshop: Workshop, packed: Sequence[Packed], config: RepeatsConfig) -> list[Packed]:
    """Give every assembly its repeat mask: kept, imported, found by its own k-mers, or none.

    Raises
    ------
    AnnotationError
        If the repeats of the manifest are broken, or of another assembly.
    """
    asked = [number for number, each in enumerate(packed) if each.assembly.repeat_mask != "keep"]
    counted = _count(workshop, [packed[n] for n in asked if packed[n].assembly.repeat_mask == "kmer"], config)
    steps = [
        _mask_step(workshop, packed[number], counted.get(packed[number].assembly.name), config) for number in asked
    ]
    found = workshop.run("Masking repeats", do_step, steps)
    masked = list(packed)
    for number, step, facts in zip(asked, steps, found, strict=True):
        each = packed[number]
        mode = each.assembly.repeat_mask
        told: dict[str, Any] = {"source": mode, "masked_frac": facts["n_masked"] / max(1, each.n_bases)}
        if mode == "kmer":
            k = counted[each.assembly.name]["k"]
            told |= {"k": k, "min_copies": _min_copies(each, config), "gap_bp": config.gap_bp}
        if mode != "none" and told["masked_frac"] < _NEXT_TO_NOTHING:
            workshop.reporter.say(
                f"{each.assembly.name}: only {told['masked_frac']:.2%} of its bases are repeats by "
                f"{'its k-mers' if mode == 'kmer' else 'the imported file'}. Is it the mask of another genome?"
            )
        facts = {**each.facts, "nibbles": facts["nibbles"], "repeats_from": told}
        masked[number] = replace(each, nibbles=step.job.out, facts=facts)
    return masked


def _count(workshop: Workshop, packed: Sequence[Packed], config: RepeatsConfig) -> dict[str, dict[str, Any]]:
    """Count the k-mers of assemblies; name to facts, with the path of the ``counts``."""
    steps = []
    for each in packed:
        min_copies = _min_copies(each, config)
        part = workshop.part("count", each.assembly.name, [each.facts["nibbles"], config.k, min_copies])
        whole = each.some(range(len(each.contigs)))
        job = CountJob(whole, part.file("counts"), min_copies, config.k, workshop.memory_bytes)
        steps.append(Step(count_repeats, job, part, each.n_bases * job.n_passes, (job.out,)))
    found = workshop.run("Counting k-mers", do_step, steps)
    return {
        each.assembly.name: {**facts, "counts": step.job.out}
        for each, step, facts in zip(packed, steps, found, strict=True)
    }


def _min_copies(each: Packed, config: RepeatsConfig) -> int:
    """Say from how many copies on a k-mer is a repeat: what every subgenome has once is none."""
    return config.min_copies * max(1, len(each.assembly.subgenomes))


def _mask_step(workshop: Workshop, each: Packed, counted: dict[str, Any] | None, config: RepeatsConfig) -> Step:
    assembly = each.assembly
    told = each.told["repeats"]
    settings = [to_dict(config), _min_copies(each, config)]
    key = [each.facts["nibbles"], assembly.repeat_mask, told and told["sha256"], settings]
    part = workshop.part("mask", assembly.name, key)
    out = workshop.nibbles(assembly.name)
    runs = {}
    if assembly.repeat_mask == "import":
        assert assembly.repeats is not None
        by_name = read_repeats(assembly.repeats, {contig.contig: contig.length for contig in each.contigs})
        runs = {number: by_name[contig.contig] for number, contig in enumerate(each.contigs)}
    job = MaskJob(
        each.some(range(len(each.contigs))),
        out,
        assembly.repeat_mask,  # type: ignore[arg-type]
        None if counted is None else counted["counts"],
        config.gap_bp,
        runs,
    )
    n_passes = 2 if counted else 1
    return Step(_mask, job, part, n_passes * each.n_bases, (out, checksums_of(out)))


def _mask(job: MaskJob, advance: Advance) -> dict[str, Any]:
    n_masked = apply_mask(job, advance)["n_masked"]
    return {"n_masked": sum(n_masked), "nibbles": write_checksums(job.out)}
