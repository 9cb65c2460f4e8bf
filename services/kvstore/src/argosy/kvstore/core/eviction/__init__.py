"""Which block a tier evicts when it needs room, and whether a slower tier should get it.

One file for each policy; `policy.py` says what a policy is.
"""

from argosy.kvstore.core.eviction.policy import POLICIES, EvictionPolicy, Key, build_policy

__all__ = ["POLICIES", "EvictionPolicy", "Key", "build_policy"]
