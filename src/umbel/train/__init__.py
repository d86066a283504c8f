"""How weights change: recipes, optimiser, loop, pretraining."""
