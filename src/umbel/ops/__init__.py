"""Numerics: each operator has a definition and faster twins that must agree with it."""
