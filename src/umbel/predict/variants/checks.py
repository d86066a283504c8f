"""What is refused before variants are scored, and what a reader of the scores has to know afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from umbel.data.bpe import BpeTokens
from umbel.errors import ConfigError
from umbel.predict.head import Head
from umbel.predict.predictor import Predictor
from umbel.predict.variants.calibration import LEAST_DRAWS
from umbel.predict.variants.output import Written
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.survey import Survey

_VCF_SUFFIXES = (".vcf.gz", ".vcf.bgz")


def require_fit(predictor: Predictor, settings: VariantSettings, head: Head | None, target: Path, source: Path) -> None:
    """See that model, settings, head and the name of the result fit each other.

    Raises
    ------
    ConfigError
        Saying which do not.
    """
    if not target.name.endswith((*_VCF_SUFFIXES, ".parquet")):
        raise ConfigError(f"-o {target}: end its name in .vcf.gz (bgzipped VCF) or .parquet (a table)")
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"-o {target}: is the input itself: give the scored file another name")
    if ("head" in settings.all_scores) != (head is not None):
        raise ConfigError(
            "--score head needs a tuned model: name it with --head"
            if head is None
            else "--head was given, and head is not among --score: add it, as in --score llr,head"
        )
    likelihoods = [name for name in settings.all_scores if name in ("llr", "pll")]
    if isinstance(predictor.tokens, BpeTokens) and likelihoods:
        raise ConfigError(
            f"--score {','.join(likelihoods)}: this model's tokens are learnt words (BPE), which give no probability "
            "of a single base. Use --score embedding, or head"
        )


def result_warnings(
    predictor: Predictor,
    settings: VariantSettings,
    found: Survey,
    done: Written,
    drawn: Mapping[str, int],
    target: Path,
) -> list[str]:
    """Say what the scores suffer from, if anything."""
    warnings = []
    differing = done.filters["UMBEL_REF_MISMATCH"]
    if differing and differing >= 0.01 * done.records:
        warnings.append(
            f"REF differs from the reference at {differing:,} of {done.records:,} records: were these variants called "
            "on another assembly?"
        )
    if not found.is_sorted and target.suffix != ".parquet":
        warnings.append(
            f"the records are not sorted and stay as they are, so that there is no index: bcftools sort {target} -Oz "
            "-o SORTED.vcf.gz, then bcftools index SORTED.vcf.gz"
        )
    few = [f"{name} ({count})" for name, count in drawn.items() if count < settings.background]
    if few:
        warnings.append(
            f"the genome gave fewer than {settings.background} random variants without N in their windows: "
            f"{', '.join(few)}. With fewer than {LEAST_DRAWS} there is no percentile and no Z"
        )
    if settings.window_bp > predictor.window_bp:
        warnings.append(
            f"windows have up to {settings.window_bp:,} bases, and the model was trained on {predictor.window_bp:,}"
        )
    return warnings
