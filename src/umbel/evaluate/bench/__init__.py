"""A model beside its baselines on the datasets of a suite, with seeds, intervals and everything that was predicted."""
