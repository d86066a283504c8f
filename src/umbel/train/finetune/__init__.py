"""Fitting a trained backbone, or an adapter of it, to labelled examples."""
