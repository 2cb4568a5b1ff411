"""A study: the folder that says everything about what will run."""

from securefl.study.folder import Study
from securefl.study.schema import StudySettings

__all__ = ["Study", "StudySettings"]
