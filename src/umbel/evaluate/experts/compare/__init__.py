"""Checkpoints side by side: did training move the router or the experts, and do other seeds find the same experts.

All checkpoints route the same items; what is kept are sums over items, whose size does not grow with their number.
"""
