"""What a model knows, beside honest baselines, and which experts know it."""
