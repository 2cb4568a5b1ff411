"""The local engine: coordinator, parties and hospitals as processes of this computer."""

from securefl.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
