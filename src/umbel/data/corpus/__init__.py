"""From a manifest of assemblies to a built corpus: packed genomes, and an index of windows."""
