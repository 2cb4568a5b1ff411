"""A drop-in replacement for Flower's SecAgg+: wrap the strategy, add the mod.

``SecureAggregation`` wraps a FedAvg-like strategy in the ServerApp; ``mod`` (or ``SecureMod`` with settings) goes first
into the ClientApp's mods. The mathematics is ``protocols.pairwise``; see docs/secagg.md.
"""

from securefl.secagg.client_mod import SecureMod, mod
from securefl.secagg.plan import Plan, SecAggError
from securefl.secagg.strategy import SecureAggregation

__all__ = ["Plan", "SecAggError", "SecureAggregation", "SecureMod", "mod"]
