"""Train, dev and test ready for use: dev made where there is none, copies looked for, long sequences seen to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from umbel.config import FinetuneConfig
from umbel.data.labelled.audit import audit, audit_lines, require_disjoint
from umbel.data.labelled.dev_split import split_dev
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.lengths import Split, fit_lengths
from umbel.data.labelled.task import Task


@dataclass(frozen=True)
class Splits:
    """The three sets of a task.

    Attributes
    ----------
    train, dev, test
        What is fitted to, what chooses, and what is reported; None where there is no test.
    facts
        Sizes, where dev comes from, and the audit of copies, as plain JSON.
    told
        The same in lines for people.
    """

    train: Split
    dev: Split
    test: Split | None
    facts: dict[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """What is asked."""
        return self.train.whole.task

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Identify what a model is shown, and what it is scored on."""
        sets = {"train": self.train, "dev": self.dev} | ({} if self.test is None else {"test": self.test})
        return {name: split.shown.content_hash() for name, split in sets.items()}


def prepare(
    train: Examples,
    dev: Examples | None,
    test: Examples | None,
    config: FinetuneConfig,
    *,
    max_bp: int,
    max_train: int = 0,
    keep_copies: bool = False,
) -> Splits:
    """Make the sets that a model is fitted, chosen and reported on.

    Parameters
    ----------
    train, dev, test
        As read; without dev, ``config.dev_frac`` of train becomes it, whole groups of near-duplicates together.
    max_bp
        Longest sequence, unless ``config.max_bp`` says another.
    max_train
        Most training examples, and of dev a quarter as many; drawn by ``config.split_seed``. 0 keeps all.
    keep_copies
        Only tell where dev or test repeat sequences of train; published sets are what they are.

    Raises
    ------
    LabelError
        If dev or test repeat sequences of train, or a sequence is too long and nothing was said about that.
    """
    limit = config.max_bp or max_bp
    facts: dict[str, Any] = {"dev_from": "file"}
    told = []
    if dev is None:
        train, dev = split_dev(train, config.dev_frac, config.split_seed)
        facts["dev_from"] = f"{config.dev_frac:g} of train, near-duplicates together, seed {config.split_seed}"
        told.append(f"dev: {len(dev):,} examples set aside from train, near-duplicates together")
    if not keep_copies:
        for other in (dev, test):
            if other is not None:
                require_disjoint(train, other)
    if test is not None:
        # Of the whole examples: models with other windows are shown other parts of the same ones.
        facts["test_hash"] = test.content_hash()
    facts["copies"] = audit({"train": train, "dev": dev} | ({} if test is None else {"test": test}))
    told += audit_lines(facts["copies"])
    sizes = {"train": len(train), "dev": len(dev), "test": 0 if test is None else len(test)}
    if max_train and len(train) > max_train:
        train = _some(train, max_train, config.split_seed)
        dev = _some(dev, max(1, max_train // 4), config.split_seed)
        told.append(f"train is {len(train):,} of {sizes['train']:,} examples, dev {len(dev):,} of {sizes['dev']:,}")
    facts["found"] = sizes
    facts["used"] = sizes | {"train": len(train), "dev": len(dev)}
    splits = [None if each is None else fit_lengths(each, limit, config.long) for each in (train, dev, test)]
    told += [split.told for split in splits if split is not None and split.told]
    assert splits[0] is not None and splits[1] is not None
    return Splits(splits[0], splits[1], splits[2], facts, tuple(told))


def _some(examples: Examples, n: int, seed: int) -> Examples:
    """Draw ``n`` examples, whatever their order: those whose content hashes lowest together with the seed."""
    if len(examples) <= n:
        return examples
    keys = [
        hashlib.sha256(f"{seed}\0{name}\0".encode() + codes.tobytes()).digest()
        for name, codes in zip(examples.ids, examples.codes, strict=True)
    ]
    return examples.take(sorted(sorted(range(len(keys)), key=keys.__getitem__)[:n]))
