from pathlib import Path

import pytest

from umbel.config import CorpusConfig, SplitConfig
from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.splits import AssemblyFacts, assign_roles, draw_roles
from umbel.errors import CorpusError, ManifestError

WHEAT = r"chr(?P<group>\d)(?P<subgenome>[ABD])"
GENOME = {f"chr{group}{subgenome}": 100 + group for group in range(1, 8) for subgenome in "ABD"} | {"chrUn": 40}


def assembly(name="one", species="Planta una", **facts):
    return Assembly(species, name, Path(f"{name}.fa"), **facts)


def assign(facts, **settings):
    return assign_roles(Path("m.toml"), facts, CorpusConfig(**settings))


def found(name="one", n50=10**6, lengths=None, screened=None, **facts):
    return AssemblyFacts(assembly(name, **facts), lengths or {"a": 5000, "b": 300}, n50, screened or {})


def test_an_assembly_of_short_contigs_goes_where_its_species_has_a_better_one():
    poor, good, other = found("poor", 1_000), found("good", 80_000), found("other", 2_000, species="Planta alia")
    roles = assign([poor, good, other], min_n50_bp=50_000)
    assert set(roles[0].role_of.values()) == {""} and set(roles[0].reason_of.values()) == {"low N50"}
    assert roles[0].decisions == (
        "left out: contig N50 of 1,000 bp is below 50,000, and good of this species has 80,000",
    )
    assert set(roles[1].role_of.values()) == {"train"} and not roles[1].decisions
    assert set(roles[2].role_of.values()) == {"train"}
    assert roles[2].decisions == (
        "kept although its contig N50 of 2,000 bp is below 50,000: this species has no better assembly",
    )


def test_the_best_of_several_poor_assemblies_is_kept():
    roles = assign([found("poor", 1_000), found("better", 3_000), found("middle", 2_000)], min_n50_bp=50_000)
    assert [set(each.role_of.values()) for each in roles] == [{""}, {"train"}, {""}]


def test_short_and_screened_contigs_have_no_role_and_a_reason():
    facts = found(lengths={"a": 5000, "b": 300, "c": 900}, screened={"c": "plastid", "b": "plastid"})
    (roles,) = assign([facts], min_contig_bp=500)
    assert roles.role_of == {"a": "train", "b": "", "c": ""}
    assert roles.reason_of == {"b": "short contig", "c": "screened"}


def test_the_roles_of_the_manifest_count_and_what_it_does_not_name_has_none():
    (roles,) = assign([found(contigs={"train": ("a",)})])
    assert roles.role_of == {"a": "train", "b": ""} and roles.reason_of == {"b": "no role"}
    (roles,) = assign([found(contigs={"train": ("*",), "test": ("b",)})])
    assert roles.role_of == {"a": "train", "b": "test"}


def test_held_out_species_and_families_win_over_the_manifest():
    facts = [
        found("one", contigs={"train": ("*",)}),
        found("two", species="Planta alia", family="Alieae"),
        found("three", species="Planta tertia", family="Alieae"),
    ]
    split = SplitConfig(test_species=("Planta una",), valid_families=("Alieae",))
    roles = assign(facts, split=split)
    assert [set(each.role_of.values()) for each in roles] == [{"test"}, {"valid"}, {"valid"}]
    assert roles[0].decisions == ("held out whole as test",)
    with pytest.raises(CorpusError, match="'Planta alia' is held out for both valid and test"):
        assign(facts, split=SplitConfig(test_families=("Alieae",), valid_species=("Planta alia",)))


def test_a_species_to_hold_out_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(CorpusError, match=r"split\.test_species: no assembly has the species 'X'.*Planta una"):
        assign([found()], split=SplitConfig(test_species=("X",)))
    with pytest.raises(CorpusError, match=r"split\.valid_families: .*'Xeae'. There are none \(a family comes from"):
        assign([found()], split=SplitConfig(valid_families=("Xeae",)))


@pytest.mark.parametrize("seed", range(8))
def test_drawn_roles_keep_homeologs_together_and_come_near_the_shares(seed):
    config = SplitConfig(valid_frac=0.14, test_frac=0.14, seed=seed)
    roles = draw_roles([(assembly(homeologs=WHEAT), GENOME)], config)
    assert len(roles) == len(GENOME)
    for group in range(1, 8):
        assert len({roles["one", f"chr{group}{subgenome}"] for subgenome in "ABD"}) == 1
    for role in ("valid", "test"):
        share = sum(GENOME[name] for (_, name), r in roles.items() if r == role) / sum(GENOME.values())
        # A group is a seventh of the genome, so no draw comes nearer than half of that for sure.
        assert abs(share - 0.14) <= 0.075
    assert roles == draw_roles([(assembly(homeologs=WHEAT), GENOME)], config)


def test_draws_differ_by_seed_and_by_species():
    def tests(species, seed):
        drawn = draw_roles([(assembly(species=species), GENOME)], SplitConfig(test_frac=0.3, seed=seed))
        return frozenset(name for (_, name), role in drawn.items() if role == "test")

    assert len({tests("Planta una", seed) for seed in range(8)}) > 4
    assert tests("Planta una", 0) != tests("Planta alia", 0)


def test_the_chromosomes_of_two_cultivars_get_the_same_role():
    facts = [found(name, lengths=GENOME, homeologs=WHEAT) for name in ("early", "late")]
    one, two = assign(facts, split=SplitConfig(test_frac=0.2, valid_frac=0.1))
    assert one.role_of == two.role_of and {"train", "valid", "test"} == set(one.role_of.values())


def test_a_role_that_no_contig_could_take_is_told():
    (roles,) = assign([found(lengths={"a": 1000})], split=SplitConfig(test_frac=0.1))
    assert roles.role_of == {"a": "train"}
    assert roles.decisions == ("none of its contigs or homeologous groups became test: they are too large, or too few",)


def test_a_homeologous_group_in_two_roles_is_refused():
    facts = found(lengths=GENOME, homeologs=WHEAT, contigs={"train": ("*",), "test": ("chr7A", "chr7B")})
    with pytest.raises(ManifestError, match=r"chr7A is test and chr7D train, but both are of homeologous group 7"):
        assign([facts])
    whole = found(lengths=GENOME, homeologs=WHEAT, contigs={"train": ("*",), "test": ("chr7A", "chr7B", "chr7D")})
    assert assign([whole])[0].role_of["chr7D"] == "test"
