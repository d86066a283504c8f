"""From assemblies to batches: manifest, corpus, tokens, masking."""
