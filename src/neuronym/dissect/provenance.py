"""What a reader needs to repeat a dissection."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from typing import Any

import torch

from neuronym._version import __version__
from neuronym.dissect.naming import Naming, centred
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.target import Target
from neuronym.probes import ProbeSet
from neuronym.record import Recording
from neuronym.similarity import Similarity
from neuronym.vision_text import VisionTextModel

__all__ = ["provenance"]

_LISTED = 100
_PACKAGES = ("timm", "torchvision", "transformers", "numpy")


def provenance(
    target: Target,
    probes: ProbeSet,
    vision_text: VisionTextModel,
    *,
    recording: Recording,
    naming: Naming,
    options: DissectOptions,
) -> dict[str, Any]:
    """Return fingerprints, SPECs, settings, versions and what was skipped, as JSON types."""
    return {
        "neuronym": __version__,
        "versions": {"torch": torch.__version__, **_versions()},
        "model": {"spec": target.spec, "fingerprint": target.fingerprint},
        "images": {
            "spec": probes.name,
            "fingerprint": probes.fingerprint,
            "seen": len(recording),
            "skipped": len(recording.skipped),
            "skipped_ids": [each.id for each in recording.skipped[:_LISTED]],
        },
        "concepts": {
            "spec": naming.concepts.name,
            "fingerprint": naming.concepts.fingerprint,
            "count": len(naming.concepts),
            "templates": list(naming.concepts.templates),
        },
        "vision_text": {
            "spec": vision_text.name,
            "fingerprint": vision_text.fingerprint,
            "dim": int(vision_text.dim),
            "logit_scale": float(vision_text.logit_scale),
        },
        "similarity": {
            "name": _name(naming.similarity),
            "keywords": {key: _plain(value) for key, value in naming.keywords.items()},
            "centred": centred(naming.similarity, options.centre),
            "concepts_with_labels": len(naming.labels),
        },
        "permutations": options.permutations,
        "significance": {
            "level": options.significance,
            "null_draws": options.null_draws,
            "fdr": options.fdr,
        },
        "linear": options.linear,
        "compose": options.compose,
        "seed": options.seed,
        "device": str(naming.scores.images.device),
    }


def _versions() -> dict[str, str]:
    installed = {name for name in _PACKAGES if importlib.util.find_spec(name) is not None}
    return {name: metadata.version(name) for name in _PACKAGES if name in installed}


def _name(similarity: str | Similarity) -> str:
    if isinstance(similarity, str):
        return similarity
    return getattr(similarity, "__qualname__", type(similarity).__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else repr(value)
