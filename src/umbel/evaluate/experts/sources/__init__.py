"""Where labelled sequences come from: genomes, and files of sequences."""
