"""Audit: does a model rely on what it should not, and what would it do without?"""

from neuronym.audit.concerns import (
    KNOWN_SHORTCUTS,
    Concern,
    concerns_from_file,
    known_shortcuts,
)
from neuronym.audit.options import AuditOptions
from neuronym.audit.planted import Mark, StampedProbes, stamped
from neuronym.audit.run import audit

__all__ = [
    "KNOWN_SHORTCUTS",
    "AuditOptions",
    "Concern",
    "Mark",
    "StampedProbes",
    "audit",
    "concerns_from_file",
    "known_shortcuts",
    "stamped",
]
