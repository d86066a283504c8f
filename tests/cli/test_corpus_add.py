import json

from calling import umbel
from toys import fasta_text, toy_sequences

from umbel.data.corpus.manifest import read_manifest


def test_assemblies_are_added_with_their_statistics(monkeypatch, capsys, tmp_path):
    (tmp_path / "a.fa").write_text(fasta_text(toy_sequences()))
    add = ("corpus", "add", tmp_path / "m.toml", "--fasta", tmp_path / "a.fa", "--species", "Brassica napus")
    code, out, err = umbel(
        monkeypatch, capsys, *add, "--assembly", "one", "--taxid", 3708, "--homeologs", "(?P<group>.)"
    )
    assert code == 0
    assert "m.toml: added one (Brassica napus, Brassicaceae)" in out
    assert "24,222 bases in 4 contigs, 0.35 % N" in out
    assert "scaffold N50 6,074, contig N50 6,074 (at 1 gaps of 10 N or more)" in out
    assert "Reading a.fa: 100%" in err
    more = ("--subgenomes", "A; C", "--lineage", "Brassicales;Brassicaceae", "--retrieved", "2026-01-02", "--ploidy", 4)
    code, out, err = umbel(monkeypatch, capsys, *add, "--assembly", "two", *more, "--quiet", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    one, two = read_manifest(tmp_path / "m.toml").assemblies
    assert (one.homeologs, two.subgenomes, two.lineage, two.ploidy) == (
        "(?P<group>.)",
        ("A", "C"),
        ("Brassicales", "Brassicaceae"),
        4,
    )
    assert (told["sha256"], told["retrieved"], told["family"]) == (two.sha256, "2026-01-02", "Brassicaceae")
    assert told["statistics"]["n_bases"] == 24_222
    code, out, err = umbel(monkeypatch, capsys, *add, "--assembly", "two", "-q")
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and "assembly 'two' is already there" in err
