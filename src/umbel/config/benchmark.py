"""How a model is put beside its baselines on the datasets of a suite."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from umbel.config.finetuning import FinetuneConfig
from umbel.config.values import STRICT, Natural

MIN_SEEDS = 3


@dataclass(frozen=True, config=STRICT)
class BenchConfig:
    """Everything that decides a benchmark, apart from model and data."""

    method: Literal["probe", "adapter", "full"] = "probe"
    """``probe``: a linear model on frozen embeddings; ``adapter``, ``full``: fine-tuning as ``finetune`` says, whose
    own ``method`` plays no part."""
    finetune: FinetuneConfig = field(default_factory=lambda: FinetuneConfig(seeds=(0, 1, 2)))
    """Seeds, split of dev and lengths hold for every row. Strands are as the suite has them."""
    max_train: Natural = 0
    """Most training examples, and of dev a quarter of it; drawn by ``finetune.split_seed``. 0 takes all. Test is always
    whole, and the table tells what was left out."""
    retries: Natural = 2
    """How often a run that collapsed on dev is tried again, each time at a third of the learning rate."""
    n_draws: Annotated[int, Field(ge=100)] = 1000
    """Bootstrap draws."""

    def __post_init__(self) -> None:
        if len(self.finetune.seeds) < MIN_SEEDS:
            raise ValueError(
                f"finetune.seeds has {len(self.finetune.seeds)} seeds, and a benchmark needs {MIN_SEEDS}: differences "
                "between models are often smaller than those between seeds"
            )
