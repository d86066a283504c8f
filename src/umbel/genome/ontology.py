"""The terms of the Sequence Ontology that we write as feature types, and the labels that we know to mean them."""

from __future__ import annotations

import re

from umbel.errors import ConfigError

SO_TERMS = {
    "CDS": "SO:0000316",
    "CDS_region": "SO:0000851",
    "LINE_element": "SO:0000194",
    "LTR_retrotransposon": "SO:0000186",
    "ORF": "SO:0000236",
    "SINE_element": "SO:0000206",
    "TATA_box": "SO:0000174",
    "TF_binding_site": "SO:0000235",
    "TSS": "SO:0000315",
    "UTR": "SO:0000203",
    "centromere": "SO:0000577",
    "coding_exon": "SO:0000195",
    "enhancer": "SO:0000165",
    "exon": "SO:0000147",
    "five_prime_UTR": "SO:0000204",
    "five_prime_cis_splice_site": "SO:0000163",
    "gap": "SO:0000730",
    "gene": "SO:0000704",
    "helitron": "SO:0000544",
    "intergenic_region": "SO:0000605",
    "intron": "SO:0000188",
    "lnc_RNA": "SO:0001877",
    "long_terminal_repeat": "SO:0000286",
    "mRNA": "SO:0000234",
    "miRNA": "SO:0000276",
    "ncRNA": "SO:0000655",
    "ncRNA_gene": "SO:0001263",
    "noncoding_exon": "SO:0000198",
    "open_chromatin_region": "SO:0001747",
    "polyA_signal_sequence": "SO:0000551",
    "polyA_site": "SO:0000553",
    "promoter": "SO:0000167",
    "pseudogene": "SO:0000336",
    "rRNA": "SO:0000252",
    "region": "SO:0000001",
    "regulatory_region": "SO:0005836",
    "repeat_region": "SO:0000657",
    "satellite_DNA": "SO:0000005",
    "sequence_feature": "SO:0000110",
    "snRNA": "SO:0000274",
    "snoRNA": "SO:0000275",
    "start_codon": "SO:0000318",
    "stop_codon": "SO:0000319",
    "tRNA": "SO:0000253",
    "tandem_repeat": "SO:0000705",
    "telomere": "SO:0000624",
    "terminal_inverted_repeat_element": "SO:0000208",
    "terminator": "SO:0000141",
    "three_prime_UTR": "SO:0000205",
    "three_prime_cis_splice_site": "SO:0000164",
    "transcript": "SO:0000673",
    "transposable_element": "SO:0000101",
}
"""Name to accession, Sequence Ontology 3.1."""

_MEANT = {
    "acceptor": "three_prime_cis_splice_site",
    "binding": "TF_binding_site",
    # A stretch of coding bases is a part of a CDS; the feature CDS itself would need the reading frame.
    "cds": "CDS_region",
    "donor": "five_prime_cis_splice_site",
    "intergenic": "intergenic_region",
    "lncrna": "lnc_RNA",
    "ltr": "long_terminal_repeat",
    "noncoding": "noncoding_exon",
    "open_chromatin": "open_chromatin_region",
    "polya": "polyA_site",
    "repeat": "repeat_region",
    "te": "transposable_element",
    "utr3": "three_prime_UTR",
    "utr5": "five_prime_UTR",
}
_ACCESSION = re.compile(r"SO:[0-9]{7}")


def is_so_type(text: str) -> bool:
    """Whether a text is one of ``SO_TERMS``, or an accession of the ontology.

    Examples
    --------
    >>> is_so_type("exon"), is_so_type("SO:0000147"), is_so_type("Exon")
    (True, True, False)
    """
    return text in SO_TERMS or _ACCESSION.fullmatch(text) is not None


def so_type(label: str) -> str:
    """Give the term that a label means, whatever its case; ``sequence_feature`` where we know of none.

    Examples
    --------
    >>> so_type("donor"), so_type("EXON"), so_type("cds"), so_type("class 7")
    ('five_prime_cis_splice_site', 'exon', 'CDS_region', 'sequence_feature')
    """
    plain = label.strip().lower().replace(" ", "_").replace("-", "_")
    if plain in _MEANT:
        return _MEANT[plain]
    by_name = {term.lower(): term for term in SO_TERMS}
    return by_name.get(plain, "sequence_feature")


def require_so_type(text: str) -> str:
    """Give back a type that somebody chose for a feature without a reading frame.

    Raises
    ------
    ConfigError
        If it is no term that we know, or is CDS.
    """
    if text in ("CDS", SO_TERMS["CDS"]):
        raise ConfigError(
            "a CDS feature needs the phase of its reading frame, which a label of single bases does not have: use "
            "CDS_region"
        )
    if not is_so_type(text):
        raise ConfigError(
            f"{text!r} is no term of the Sequence Ontology that we know. Give its accession, such as SO:0000147, or "
            f"one of {', '.join(SO_TERMS)}"
        )
    return text
