"""One run: every setting of it, to JSON and back, and changed by ``--set``."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from umbel.config.corpus import CorpusConfig
from umbel.config.model import ModelConfig
from umbel.config.samples import BalanceConfig, MaskingConfig, TokensConfig
from umbel.config.training import HealthConfig, OptimConfig, ParallelConfig, TrainConfig
from umbel.config.values import STRICT
from umbel.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """Everything that decides a pretraining run, apart from the corpus itself."""

    name: str
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    tokens: TokensConfig = dataclasses.field(default_factory=TokensConfig)
    balance: BalanceConfig = dataclasses.field(default_factory=BalanceConfig)
    masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    health: HealthConfig = dataclasses.field(default_factory=HealthConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    def __post_init__(self) -> None:
        shortest = min(self.corpus.min_window_bp, self.corpus.window_bp)
        if shortest < self.tokens.k:
            raise ValueError(
                f"windows may have {shortest} bases and tokens have {self.tokens.k}: raise corpus.min_window_bp"
            )
        if self.tokens.row_tokens and self.train.length_stages:
            raise ValueError(
                "train.length_stages cuts windows into pieces, and tokens.row_tokens lays them end to end: set one of "
                "them alone"
            )
        longest = max((stage.window_bp for stage in self.train.length_stages), default=0)
        if longest > self.corpus.window_bp:
            raise ValueError(f"train.length_stages has {longest} bp, and windows have {self.corpus.window_bp}")
        if self.model.n_experts % self.parallel.expert_processes:
            raise ValueError(
                f"parallel.expert_processes is {self.parallel.expert_processes}, which does not divide the "
                f"{self.model.n_experts} experts of model.n_experts evenly"
            )
        if self.tokens.row_tokens and self.masking.placement_weight:
            raise ValueError(
                "tokens.row_tokens cuts windows at the edges of rows, which would part cut spans from their gaps: set "
                "tokens.row_tokens=0 or masking.placement_weight=0"
            )


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config into plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: dict[str, Any], where: str = "settings") -> T:
    """Build a config from plain dictionaries; unknown keys and wrong values are errors.

    Raises
    ------
    ConfigError
        Naming ``where`` and each key that is wrong.

    Examples
    --------
    >>> from_dict(CorpusConfig, {"window_bp": 512}).overlap_bp
    128
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']) or kind.__name__}: {item['msg']}" for item in error.errors()
        ]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def read_value(text: str) -> Any:
    """Read the right side of ``--set``: JSON where it is JSON, else the text itself.

    Examples
    --------
    >>> read_value("1e-3"), read_value("false"), read_value("Md Me")
    (0.001, False, 'Md Me')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def apply_settings(config: T, settings: Iterable[str]) -> T:
    """Change settings by ``section.name=value`` texts, as the command line's ``--set`` does.

    Raises
    ------
    ConfigError
        If a text has no ``=``, a key does not exist, or a value does not fit.

    Examples
    --------
    >>> apply_settings(RunConfig("demo"), ["optim.lr=1e-3", "model.pattern=Me"]).optim.lr
    0.001
    """
    values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *sections, name = key.strip().split(".")
        place: Any = values
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or name not in place:
            known = ", ".join(sorted(place)) if isinstance(place, dict) else ", ".join(sorted(values))
            raise ConfigError(f"--set {setting}: no such setting. Write section.name=value; here one of: {known}")
        place[name] = read_value(text)
    return from_dict(type(config), values, "--set")


def read_run_config(path: str | Path) -> RunConfig:
    """Read a run from ``run.json`` of an earlier run, or from a TOML file of the same keys."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
        values = tomllib.loads(text) if source.suffix == ".toml" else json.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{source}: no such file") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{source}: not readable as {'TOML' if source.suffix == '.toml' else 'JSON'}: {error}"
        ) from error
    return from_dict(RunConfig, values.get("config", values), str(source))
