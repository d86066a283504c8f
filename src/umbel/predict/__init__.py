"""Use a trained model: embeddings of sequences, windows and regions."""
