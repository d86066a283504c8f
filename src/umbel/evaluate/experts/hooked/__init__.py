"""Other people's models: the routers of any mixture-of-experts model of Hugging Face, read by forward hooks.

:func:`~umbel.evaluate.experts.hooked.sites.find_routers` finds the modules,
:mod:`~umbel.evaluate.experts.hooked.learning` learns from one short pass how the answer of each is read,
:mod:`~umbel.evaluate.experts.hooked.parsing` reads it, and
:class:`~umbel.evaluate.experts.hooked.model.HookedModel` is the model that the atlas records.
"""
