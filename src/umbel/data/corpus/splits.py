"""Which role each contig plays, and why it plays none: screens, held-out species, the manifest, or the draw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from umbel.config import CorpusConfig, SplitConfig
from umbel.data.corpus.assembly import Assembly
from umbel.errors import CorpusError, ManifestError


@dataclass(frozen=True)
class AssemblyFacts:
    """What decides over an assembly, besides the manifest.

    Attributes
    ----------
    lengths
        Contig to bases, in the order of the FASTA.
    contig_n50
        In bases.
    screened
        Contig to the name of the screen that holds most of its k-mers; only contigs that are to go.
    """

    assembly: Assembly
    lengths: Mapping[str, int]
    contig_n50: int
    screened: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Roles:
    """Roles of the contigs of one assembly.

    Attributes
    ----------
    role_of
        Contig to ``train``, ``valid``, ``test`` or ``""``.
    reason_of
        Contigs without a role to the reason, one of :data:`REASONS`.
    decisions
        What was decided over the assembly as a whole, in sentences.
    is_to_draw
        True while the draw has still to divide it.
    """

    role_of: Mapping[str, str]
    reason_of: Mapping[str, str]
    decisions: tuple[str, ...]
    is_to_draw: bool = False


LOW_N50, SHORT, SCREENED, UNNAMED = "low N50", "short contig", "screened", "no role"
REASONS = (LOW_N50, SHORT, SCREENED, UNNAMED)


def assign_roles(manifest: Path, facts: Sequence[AssemblyFacts], config: CorpusConfig) -> list[Roles]:
    """Give every contig its role.

    In this order: an assembly below ``min_n50_bp`` is left out, unless no other of its species has a higher contig
    N50; contigs below ``min_contig_bp`` and screened contigs are left out; a held-out species or family takes its role;
    then the roles of the manifest count; and an assembly without any is divided by :func:`draw_roles`.

    Raises
    ------
    ManifestError
        If the manifest gives the contigs of a homeologous group two roles.
    CorpusError
        If a species or family to hold out is not in the manifest.
    """
    held = _held_out([found.assembly for found in facts], config.split)
    of_species: dict[str, list[AssemblyFacts]] = {}
    for found in facts:
        of_species.setdefault(found.assembly.species, []).append(found)
    roles: dict[str, Roles] = {}
    for of_one in of_species.values():
        best = max(of_one, key=lambda found: found.contig_n50)
        open_to_draw: list[tuple[Assembly, Mapping[str, int]]] = []
        for found in of_one:
            roles[found.assembly.name] = _without_draw(manifest, found, best, held, config)
            if roles[found.assembly.name].is_to_draw:
                reasons = roles[found.assembly.name].reason_of
                open_to_draw.append((found.assembly, {n: bp for n, bp in found.lengths.items() if n not in reasons}))
        if open_to_draw:
            drawn = draw_roles(open_to_draw, config.split)
            for assembly, lengths in open_to_draw:
                roles[assembly.name] = _with_draw(roles[assembly.name], assembly.name, lengths, drawn, config.split)
    return [roles[found.assembly.name] for found in facts]


def _without_draw(
    manifest: Path, found: AssemblyFacts, best: AssemblyFacts, held: Mapping[str, str], config: CorpusConfig
) -> Roles:
    assembly, decisions = found.assembly, []
    nowhere = dict.fromkeys(found.lengths, "")
    if found.contig_n50 < config.min_n50_bp:
        below = f"contig N50 of {found.contig_n50:,} bp is below {config.min_n50_bp:,}"
        if best.contig_n50 > found.contig_n50:
            decisions.append(f"left out: {below}, and {best.assembly.name} of this species has {best.contig_n50:,}")
            return Roles(nowhere, dict.fromkeys(found.lengths, LOW_N50), tuple(decisions))
        decisions.append(f"kept although its {below}: this species has no better assembly")
    reasons = {name: SHORT for name, length in found.lengths.items() if length < config.min_contig_bp}
    reasons.update({name: SCREENED for name in found.lengths if name in found.screened and name not in reasons})
    usable = [name for name in found.lengths if name not in reasons]
    if assembly.name in held:
        decisions.append(f"held out whole as {held[assembly.name]}")
        roles = dict.fromkeys(usable, held[assembly.name])
    elif assembly.contigs:
        roles = {name: assembly.role_of(name) for name in usable}
        _require_whole_groups(manifest, assembly, roles)
        reasons.update({name: UNNAMED for name, role in roles.items() if not role})
    else:
        return Roles(nowhere, reasons, tuple(decisions), is_to_draw=True)
    return Roles({**nowhere, **roles}, reasons, tuple(decisions))


def _with_draw(
    roles: Roles,
    assembly: str,
    lengths: Mapping[str, int],
    drawn: Mapping[tuple[str, str], str],
    config: SplitConfig,
) -> Roles:
    decisions = list(roles.decisions)
    for role, frac in (("valid", config.valid_frac), ("test", config.test_frac)):
        if frac and role not in {drawn[assembly, name] for name in lengths}:
            decisions.append(f"none of its contigs or homeologous groups became {role}: they are too large, or too few")
    role_of = {**roles.role_of, **{name: drawn[assembly, name] for name in lengths}}
    return Roles(role_of, roles.reason_of, tuple(decisions))


def draw_roles(
    assemblies: Sequence[tuple[Assembly, Mapping[str, int]]], config: SplitConfig
) -> dict[tuple[str, str], str]:
    """Divide the contigs of one species into test, validation and training, homeologous groups whole.

    What has the same group, or without a group the same contig name, goes together over all assemblies: cultivars
    share their chromosomes. Groups come in an order drawn from the seed and the species. One goes to the test if that
    brings the test nearer to ``test_frac`` of the bases, else to validation by the same rule, else to training.

    Parameters
    ----------
    assemblies
        Assemblies of one species, each with the lengths of its usable contigs in bases.

    Returns
    -------
    (assembly, contig) to role.

    Examples
    --------
    >>> wheat = Assembly("Triticum aestivum", "toy", Path("a.fa"), homeologs=r"chr(?P<group>[1-7])[ABD]")
    >>> lengths = {f"chr{group}{subgenome}": 10 for group in range(1, 8) for subgenome in "ABD"}
    >>> roles = draw_roles([(wheat, lengths)], SplitConfig(test_frac=0.15, seed=1))
    >>> sorted(contig for (_, contig), role in roles.items() if role == "test")
    ['chr7A', 'chr7B', 'chr7D']
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    sizes: dict[str, int] = {}
    for assembly, lengths in assemblies:
        for name, length in lengths.items():
            group = assembly.homeolog_group(name)
            unit = f"group {group}" if group else f"contig {name}"
            groups.setdefault(unit, []).append((assembly.name, name))
            sizes[unit] = sizes.get(unit, 0) + length
    names, total = list(groups), sum(sizes.values())
    key = int.from_bytes(hashlib.sha256(assemblies[0][0].species.encode()).digest()[:8], "little")
    order = np.random.Generator(np.random.Philox(key=[config.seed, key])).permutation(len(names))
    left = {"test": config.test_frac * total, "valid": config.valid_frac * total}
    roles: dict[tuple[str, str], str] = {}
    for place in order:
        unit = names[place]
        role = next((role for role, wanted in left.items() if abs(wanted - sizes[unit]) < abs(wanted)), "train")
        if role in left:
            left[role] -= sizes[unit]
        roles.update(dict.fromkeys(groups[unit], role))
    return roles


def _held_out(assemblies: Sequence[Assembly], config: SplitConfig) -> dict[str, str]:
    """Assemblies to their held-out role; a species or family in two roles, or nowhere, is refused."""
    held: dict[str, str] = {}
    for role in ("test", "valid"):
        for kind, names in (
            ("species", getattr(config, f"{role}_species")),
            ("family", getattr(config, f"{role}_families")),
        ):
            for name in names:
                found = [assembly for assembly in assemblies if getattr(assembly, kind) == name]
                if not found:
                    there = sorted({getattr(assembly, kind) for assembly in assemblies} - {""})
                    raise CorpusError(
                        f"split.{role}_{'species' if kind == 'species' else 'families'}: no assembly has the {kind} "
                        f"{name!r}. There are {', '.join(there[:8]) or 'none'}{' ...' if len(there) > 8 else ''}"
                        f"{'' if kind == 'species' else ' (a family comes from taxid, lineage or family)'}."
                    )
                for assembly in found:
                    if held.setdefault(assembly.name, role) != role:
                        raise CorpusError(f"split: {name!r} is held out for both valid and test. Choose one.")
    return held


def _require_whole_groups(manifest: Path, assembly: Assembly, roles: Mapping[str, str]) -> None:
    first_of: dict[str, str] = {}
    for name, role in roles.items():
        group = assembly.homeolog_group(name)
        if group and roles[first_of.setdefault(group, name)] != role:
            other = first_of[group]
            raise ManifestError(
                f"assembly {assembly.name!r}: {other} is {roles[other] or 'without role'} and {name} "
                f"{role or 'without role'}, but both are of homeologous group {group}. Give them one role: their "
                "sequences are alike.",
                manifest,
            )
