"""A hospital's own images: NIfTI volumes, DICOM series, image files, and MedMNIST's archives.

Every image becomes float32 of shape (1, size, size) from 0 to 1, by the image alone: no statistic over patients
enters. Records carry their patient, and the held-out records are those of whole patients.
"""

from securefl.data.imaging.load import load_imaging
from securefl.data.imaging.settings import ImagingSettings

__all__ = ["ImagingSettings", "load_imaging"]
