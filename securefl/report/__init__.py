"""What a run shows for itself: a page that a person opens, and the table at the end of ``securefl run``."""

from securefl.report.page import write_report
from securefl.report.results import summary_table

__all__ = ["summary_table", "write_report"]
