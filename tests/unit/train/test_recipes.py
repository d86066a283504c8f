from dataclasses import replace

import pytest

from umbel.errors import ConfigError
from umbel.train.recipes import RECIPES, breadth, depth, load_recipe, plantbimoe


def test_the_published_run():
    run = plantbimoe()
    assert (run.model.pattern, run.model.n_layers, run.model.d_model) == ("Md Me", 16, 512)
    assert (run.corpus.window_bp, run.corpus.overlap_bp, run.corpus.max_n_frac) == (32_768, 128, 0.02)
    assert (run.optim.lr, run.optim.warmup_steps, run.optim.weight_decay) == (8e-3, 1_000, 0.1)
    assert (run.optim.beta1, run.optim.beta2) == (0.95, 0.9)
    assert (run.masking.mask_frac, run.masking.revcomp_frac) == (0.15, 0.3)
    assert run.train.batch_windows == 4 * 8 * 8
    assert run.train.steps * run.train.batch_windows * run.corpus.window_bp == pytest.approx(10 * 25.40e9, rel=1e-4)
    assert (run.train.balance_coef, run.train.z_coef) == (0, 0)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_called_what_they_are(name):
    assert load_recipe(name).name == name


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"gigantic: no such recipe. There are plantbimoe, .*tiny"):
        load_recipe("gigantic")


def test_breadth_and_depth_differ_in_how_many_species_they_see_and_nothing_else():
    broad, deep = breadth(), depth()
    assert replace(broad, name="", balance=deep.balance) == replace(deep, name="")
    assert replace(broad.balance, n_species=4) == deep.balance
    # Windows that share bases would make a pool of few species smaller than it says.
    assert broad.corpus.overlap_bp == 0 and broad.balance.pool_bp > 0
