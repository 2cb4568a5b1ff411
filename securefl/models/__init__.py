"""Models: built from a study with reproducible initial weights, and turned into one vector and back."""

from securefl.models.build import build_model
from securefl.models.state import Layout

__all__ = ["Layout", "build_model"]
