"""Networks: one backbone built from a pattern string, its heads and its checkpoints."""
