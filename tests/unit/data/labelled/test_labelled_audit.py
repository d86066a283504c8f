import json

import numpy as np
import pytest
from labelled_sets import examples_of, mutated, random_codes

from umbel.data.labelled.audit import audit, audit_lines, require_disjoint
from umbel.data.labelled.task import Task
from umbel.errors import LabelError
from umbel.genome.sequence import revcomp


def planted_splits():
    """Train of 40 with one repeat; dev of 10 with 3 exact copies, one with another label; test with 4 near-copies."""
    rng = np.random.default_rng(0)
    codes = random_codes(70, 150)
    train = examples_of([*codes[:40], codes[0]], np.zeros(41, int))
    dev_targets = np.zeros(13, int)
    dev_targets[11] = 1
    dev = examples_of([*codes[40:50], codes[3], revcomp(codes[5]), codes[7]], dev_targets, source="d.csv")
    near = [mutated(codes[i], 0.97, rng) for i in (10, 11, 12, 41)]
    test = examples_of([*codes[50:56], *near], np.zeros(10, int), source="s.csv")
    return {"train": train, "dev": dev, "test": test}


def test_an_audit_counts_what_was_planted():
    found = audit(planted_splits())
    json.dumps(found)
    assert found["sizes"] == {"train": 41, "dev": 13, "test": 10}
    assert found["within"]["train"] == {"repeats": 1, "near_groups": 1, "in_near_groups": 2, "conflicts": 0}
    assert found["within"]["test"] == {"repeats": 0, "near_groups": 0, "in_near_groups": 0, "conflicts": 0}
    dev, test, dev_test = (found["between"][name] for name in ("train/dev", "train/test", "dev/test"))
    assert (dev["exact"], dev["near"], dev["chained"], dev["conflicts"]) == (3, 3, 3, 1)
    assert dev["exact_shown"] == [["row-12", 12, "row-5", 5], ["row-13", 13, "row-7", 7], ["row-14", 14, "row-9", 9]]
    assert dev["conflicts_shown"] == [["row-13", 13, "row-7", 7]]
    assert (test["exact"], test["near"], test["near_share"]) == (0, 3, 0.3)
    assert [shown[1::2] for shown in test["near_shown"]] == [[8, 12], [9, 13], [10, 14]]
    assert (dev_test["exact"], dev_test["near"]) == (0, 1) and dev_test["near_shown"] == [["row-11", 11, "row-3", 3]]
    assert found["settings"] == {"min_ani": 0.9, "k": 15, "scaled": 1}


def test_an_audit_in_words():
    lines = audit_lines(audit(planted_splits()))
    assert lines[0] == "train: 1 exact repeats, 2 examples in 1 groups of near-copies"
    assert lines[3] == (
        "dev: 3 examples have an exact copy in train, 3 (23.1 %) a near-copy (identity of about 0.9 and more), "
        "1 of them with another label"
    )


def test_two_targets_of_one_sequence_within_a_part():
    (one,) = random_codes(1, 100)
    two = examples_of([one, revcomp(one)], np.array([[0.5], [1.5]], np.float32), Task("regression", ("y",)))
    found = audit({"train": two})
    assert found["within"]["train"]["conflicts"] == 1 and not found["between"]
    assert audit_lines(found)[0].endswith("groups of near-copies, 1 sequences with two targets")


def test_a_dev_set_that_repeats_training_rows_is_refused():
    splits = planted_splits()
    with pytest.raises(LabelError) as error:
        require_disjoint(splits["train"], splits["dev"])
    assert str(error.value).startswith(
        "d.csv, line 12: 3 of 13 sequences are in a.csv too: rows 12, 13, 14; row 12 repeats row 5 of it. Take them out"
    )
    assert require_disjoint(splits["train"], splits["dev"], allow=True).tolist() == [10, 11, 12]
    assert require_disjoint(splits["train"], splits["test"]).tolist() == []
