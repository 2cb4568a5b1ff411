"""securefl: hospitals train one model together, and nobody ever sees a single hospital's update.

>>> import securefl
>>> study = securefl.Study.load("examples/mnist_five_hospitals")  # doctest: +SKIP
>>> result = securefl.run(study, out="runs/demo")  # doctest: +SKIP
>>> result.summary["accuracy"]  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securefl.errors import SecureFLError
    from securefl.running import Result, load_result, run
    from securefl.study import Study

__all__ = ["Result", "SecureFLError", "Study", "load_result", "run"]

_HOMES = {
    "Result": "securefl.running",
    "SecureFLError": "securefl.errors",
    "Study": "securefl.study",
    "load_result": "securefl.running",
    "run": "securefl.running",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: torch alone takes seconds, and `securefl --help` needs none of it.
    if name not in _HOMES:
        raise AttributeError(f"module 'securefl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
