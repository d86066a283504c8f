"""Models that see a few bases around each, so that what a scan must say follows from a plain loop."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch

from umbel.data.labelled.task import Task

SIGHT = 4
"""Bases to each side that the fakes see."""


def base_table(codes):
    """Natural-log probabilities from the bases around each, by a plain loop, ``(L, 4)``; NaN at N."""
    table = np.full((len(codes), 4), np.nan, np.float32)
    for place, code in enumerate(codes):
        if code < 4:
            around = [c for c in range(place - SIGHT, place + SIGHT + 1) if c != place and 0 <= c < len(codes)]
            weight = np.ones(4)
            for other in around:
                weight[codes[other] % 4] += 0.7 / abs(other - place)
            table[place] = np.log(weight / weight.sum())
    return table


class FakePredictor:
    """Says what :func:`base_table` says; ``broken`` puts a NaN where this pattern of bases begins."""

    weights_hash, min_bases, window_bp, source, precision = "fake", 3, 40, None, "fp32"
    moe_layers, n_experts = (), 0
    device = torch.device("cpu")

    def __init__(self, broken=None):
        self.broken, self.n_read = broken, 0

    def require_base_probabilities(self):
        pass

    def pseudo_log_probs(self, codes, phases, strand="forward"):
        self.n_read += len(codes)
        tables = [base_table(sequence) for sequence in codes]
        for table, sequence in zip(tables, codes, strict=True):
            for place in range(len(sequence)) if self.broken else ():
                if tuple(sequence[place : place + len(self.broken)]) == self.broken:
                    table[place] = np.nan
        return tables


class FakeHead:
    """Outputs from the bases around: for ``bases`` classes by what lies there, for others counts of bases."""

    weights_hash, min_bases, window_bp, source = "fake head", 3, 40, Path("head")

    def __init__(self, kind, names, bin_bp=1):
        self.task = Task(kind, tuple(names), bin_bp)

    def outputs(self, codes, strand="forward"):
        if self.task.kind == "bins":
            step = self.task.bin_bp
            return [
                np.array(
                    [[(s[i : i + step] == n).sum() for n in range(self.task.n_outputs)] for i in range(0, len(s), step)]
                )
                for s in codes
            ]
        return [np.array([(s == n).sum() for n in range(self.task.n_outputs)], np.float32) for s in codes]

    def probabilities(self, codes, strand="forward"):
        if self.task.kind == "bases":
            tables = (np.exp(np.nan_to_num(base_table(s), nan=-1.0))[:, : self.task.n_outputs] for s in codes)
            return [table / table.sum(1, keepdims=True) for table in tables]
        return [np.array([(s == n).mean() for n in range(self.task.n_outputs)], np.float32) for s in codes]


class _Scripts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open, self.number = {}, None, 0

    def handle_starttag(self, tag, attributes):
        if tag == "script":
            told = dict(attributes)
            self.open = told.get("id") or f"{told.get('class', 'code')}{self.number}"
            self.number += 1
            self.found[self.open] = ""

    def handle_endtag(self, tag):
        if tag == "script":
            self.open = None

    def handle_data(self, data):
        if self.open:
            self.found[self.open] += data


def page_scripts(path):
    """Read a page as a browser does: the text of each script element, by id, or class and number."""
    parser = _Scripts()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.found
