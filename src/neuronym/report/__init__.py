"""The report: a page that opens from disk, and plain sentences about explanations."""

from neuronym.report.options import ExplainedImage, ReportOptions
from neuronym.report.page import write_report
from neuronym.results.sentence import Part, parts, sentence

__all__ = ["ExplainedImage", "Part", "ReportOptions", "parts", "sentence", "write_report"]
