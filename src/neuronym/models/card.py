"""The model card of a model folder: what it is, how well it does, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuronym.models.folder import ModelConfig

__all__ = ["card_metadata", "card_text"]

_CLASSES_SHOWN = 20


def card_metadata(config: ModelConfig, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the card's header, with the accuracy as a ``model-index``."""
    tags = ["image-classification", "neuronym"]
    if config.competitors is not None:
        tags += ["interpretability", "local-winner-takes-all"]
    data: dict[str, Any] = {
        "library_name": "neuronym",
        "pipeline_tag": "image-classification",
        "tags": sorted(tags),
    }
    measured = metrics.get("validation")
    if measured:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"type": "imagefolder", "name": "validation images"},
            "metrics": [{"type": "accuracy", "value": round(float(measured["accuracy"]), 4)}],
        }
        data["metrics"] = ["accuracy"]
        data["model-index"] = [{"name": _title(config), "results": [result]}]
    return data


def card_text(config: ModelConfig, metrics: Mapping[str, Any], *, repository: str) -> str:
    """Return the card's body as Markdown.

    Args:
        config: Of the model.
        metrics: Content of ``metrics.json``; may be empty.
        repository: What the loading example names: a hub repository or a folder.
    """
    lines = [f"# {_title(config)}", "", _what(config), ""]
    lines += ["## Measured", "", *_measured(metrics), ""]
    lines += ["## Load", "", "```python", *_loading(repository), "```", ""]
    lines += ["## Configuration", "", "| field | value |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in _fields(config).items()]
    return "\n".join([*lines, ""])


def _title(config: ModelConfig) -> str:
    short = config.model.rpartition(":")[2]
    kind = "" if config.head is None else f" with a {config.head.activation} head"
    among = "" if config.competitors is None else f", {config.competitors} competitors"
    return f"{short}{kind}{among}"


def _what(config: ModelConfig) -> str:
    network = f"An image classifier of {config.num_classes} classes, built on `{config.model}`"
    if config.head is not None:
        network += "; the backbone is frozen and only the head was trained"
    if config.competitors is None:
        return f"{network}. Its units do not compete: it is a dense network."
    count = len(config.converted)
    sites = "one site" if count == 1 else f"{count} sites"
    return (
        f"{network}. Units compete in blocks of {config.competitors} at {sites} (stochastic local "
        "winner-takes-all): one unit of a block passes its value, the others pass zero. In "
        "evaluation the largest wins."
    )


def _measured(metrics: Mapping[str, Any]) -> list[str]:
    measured = metrics.get("validation")
    if not measured:
        return ["Nothing was measured."]
    rows = [
        ("accuracy", f"{measured['accuracy']:.4f}"),
        ("negative log-likelihood, nats", f"{measured['nll']:.4f}"),
        ("images", str(measured["images"])),
    ]
    if measured.get("active_fraction") is not None:
        rows.append(("active fraction of the units", f"{measured['active_fraction']:.4f}"))
    lines = [
        "On the validation images, which chose the epoch:",
        "",
        "| what | value |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value} |" for name, value in rows]
    per_class = metrics.get("per_class") or {}
    if per_class:
        lines += ["", "| class | right | images |", "|---|---|---|"]
        worst = sorted(
            per_class.items(), key=lambda row: row[1]["right"] / max(1, row[1]["images"])
        )
        lines += [
            f"| {_cell(name)} | {row['right']} | {row['images']} |"
            for name, row in worst[:_CLASSES_SHOWN]
        ]
        if len(worst) > _CLASSES_SHOWN:
            lines += ["", f"These are the {_CLASSES_SHOWN} weakest of {len(worst)} classes."]
    return lines


def _loading(repository: str) -> list[str]:
    return [
        "from neuronym.models.sharing import HubModel",
        "",
        f"model = HubModel.from_pretrained({repository!r})",
        "logits = model(model.loaded.transform(image)[None])  # image: PIL.Image",
    ]


def _fields(config: ModelConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "architecture": config.model,
        "input size": config.preprocessing.input_size,
        "competitors": config.competitors or "none",
        "competing sites": ", ".join(config.converted) or "none",
    }
    if config.head is not None:
        place = "input" if config.head.cut else config.head.pooling + " of the output"
        shown["features"] = f"{config.head.features}, {place} of {config.head.site}"
        shown["hidden units"] = config.head.hidden
    versions = config.details.get("versions") or {}
    return shown | {f"version of {name}": value for name, value in versions.items()}


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
