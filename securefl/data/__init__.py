"""Records: where they come from, how they are split over hospitals, and how inputs are standardised."""

from securefl.data.records import HospitalData, Records
from securefl.data.sources import input_shape_and_classes, load_all, load_hospital
from securefl.data.standardise import Scaling, apply, scaling, statistics_vector

__all__ = [
    "HospitalData",
    "Records",
    "Scaling",
    "apply",
    "input_shape_and_classes",
    "load_all",
    "load_hospital",
    "scaling",
    "statistics_vector",
]
