"""Low-rank adapters through PEFT: which weights, how many parameters, do they learn, and how they are kept."""
