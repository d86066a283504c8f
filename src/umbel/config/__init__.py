"""Every setting of a run, as frozen dataclasses that go to JSON and back without loss.

A recipe (``umbel.train.recipes``) is a function that returns one :class:`RunConfig`.
"""

from umbel.config.benchmark import BenchConfig
from umbel.config.corpus import CorpusConfig, DuplicatesConfig, RepeatsConfig, SplitConfig
from umbel.config.finetuning import AdapterConfig, FinetuneConfig
from umbel.config.model import ModelConfig
from umbel.config.run import RunConfig, apply_settings, from_dict, read_run_config, read_value, to_dict
from umbel.config.samples import BalanceConfig, MaskingConfig, TokensConfig
from umbel.config.training import HealthConfig, LengthStage, OptimConfig, ParallelConfig, TrainConfig

__all__ = [
    "AdapterConfig",
    "BalanceConfig",
    "BenchConfig",
    "CorpusConfig",
    "DuplicatesConfig",
    "FinetuneConfig",
    "HealthConfig",
    "LengthStage",
    "MaskingConfig",
    "ModelConfig",
    "OptimConfig",
    "ParallelConfig",
    "RepeatsConfig",
    "RunConfig",
    "SplitConfig",
    "TokensConfig",
    "TrainConfig",
    "apply_settings",
    "from_dict",
    "read_run_config",
    "read_value",
    "to_dict",
]
