"""The expert atlas: what each expert of a sparse model learned, with the controls that keep a picture honest.

A :class:`~umbel.evaluate.experts.source.Source` gives labelled stretches of sequence, a
:class:`~umbel.evaluate.experts.routes.RoutedModel` routes them, and :class:`~umbel.evaluate.experts.totals.Totals` are
all that is kept: their size does not grow with the number of tokens.
"""
