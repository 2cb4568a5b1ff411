"""The errors that a user of securefl can meet. Each message is one sentence: what is wrong and what to do."""

from __future__ import annotations


class SecureFLError(Exception):
    """Base of all errors that securefl raises on purpose; the command line prints it as one line and exits 1."""


class StudyError(SecureFLError):
    """The study is missing, malformed, or asks for something that cannot be."""


class ConsortiumError(SecureFLError):
    """Members or keys are missing, malformed, or not the pinned ones."""


class DataError(SecureFLError):
    """Records are missing, malformed, not finite, or too few."""


class StatisticsError(DataError):
    """What round 0 opened can be no hospitals' sums; ``what`` says why, as a part of a sentence."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The statistics of round 0 cannot be true: {what}; a hospital sent something else, and nobody can tell "
            "from a sum which, so agree on another seed for the study and leave out whom you do not trust."
        )


class ModelError(SecureFLError):
    """The model cannot be built, or cannot be trained and averaged as the study asks."""


class RefusedError(SecureFLError):
    """A role refuses a message; its state is unchanged. ``reason`` is a short fixed code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EngineError(SecureFLError):
    """A process, socket or disk that the run needs failed and could not be brought back."""


class RunError(SecureFLError):
    """The run folder cannot be used: not empty, another study's, or incomplete."""
