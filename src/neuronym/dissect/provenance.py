"""What a reader needs to repeat a dissection."""

from __future__ import annotations

from typing import Any

from neuronym._version import __version__
from neuronym.dissect.evidence import Comparison, Evidence
from neuronym.dissect.options import DissectOptions
from neuronym.record.runs import Run
from neuronym.similarity import Similarity

__all__ = ["provenance"]

_LISTED = 100


def provenance(
    run: Run, comparison: Comparison, evidence: Evidence, options: DissectOptions
) -> dict[str, Any]:
    """Return fingerprints, SPECs, settings, versions and what was skipped, as JSON types."""
    identity, facts = run.info.identity, run.info.facts
    skipped = run.skipped
    versions = {key: value for key, value in identity["versions"].items() if key != "neuronym"}
    return {
        "neuronym": __version__,
        "versions": versions,
        "model": {"spec": facts["model"], "fingerprint": identity["model"]},
        "images": {
            "spec": facts["images"],
            "fingerprint": identity["images"],
            "seen": len(run),
            "skipped": len(skipped),
            "skipped_ids": [each.id for each in skipped[:_LISTED]],
            "decoded_at_least": identity["decoded_at_least"],
        },
        "concepts": {
            "spec": comparison.concepts.name,
            "fingerprint": comparison.concepts.fingerprint,
            "count": len(comparison.concepts),
            "templates": list(comparison.concepts.templates),
        },
        "vision_text": {
            "spec": facts["vision_text"],
            **identity["vision_text"],
            "logit_scale": facts["logit_scale"],
        },
        "similarity": {
            "name": _name(comparison.similarity),
            "keywords": {key: _plain(value) for key, value in comparison.keywords.items()},
            "centred": comparison.centred,
            "concepts_with_labels": len(evidence.labels),
            "read_from": evidence.basis,
        },
        "significance": {
            "level": options.significance,
            "fdr": options.fdr,
            "null_draws": options.null_draws if evidence.has_null else None,
        },
        "permutations": options.permutations,
        "linear": options.linear,
        "compose": options.compose,
        "seed": options.seed,
        "device": str(comparison.device),
        "sites": facts["sites"],
        "sites_left_out": facts["sites_left_out"],
    }


def _name(similarity: str | Similarity) -> str:
    if isinstance(similarity, str):
        return similarity
    return getattr(similarity, "__qualname__", type(similarity).__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else repr(value)
