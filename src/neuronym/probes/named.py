"""Probe sets by name: torchvision's datasets, and datasets of the Hugging Face hub."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, MissingError, UnavailableError, unknown
from neuronym.files import cache_folder, fingerprint
from neuronym.probes.decode import decode
from neuronym.probes.memory import HeldProbes, check_labels, from_dataset

__all__ = [
    "TORCHVISION",
    "image_column",
    "load_hub",
    "load_saved",
    "load_torchvision",
    "require_datasets",
]

# Name -> how its parts are chosen: "train" is a flag (parts train and test), "split" a text,
# "" means that there are no parts.
TORCHVISION: Mapping[str, str] = {
    "CIFAR10": "train",
    "CIFAR100": "train",
    "MNIST": "train",
    "FashionMNIST": "train",
    "KMNIST": "train",
    "USPS": "train",
    "Caltech101": "",
    "Caltech256": "",
    "Country211": "split",
    "DTD": "split",
    "EuroSAT": "",
    "FGVCAircraft": "split",
    "Flowers102": "split",
    "Food101": "split",
    "GTSRB": "split",
    "ImageNet": "split",
    "Imagenette": "split",
    "OxfordIIITPet": "split",
    "PCAM": "split",
    "Places365": "split",
    "RenderedSST2": "split",
    "STL10": "split",
    "SUN397": "",
    "SVHN": "split",
    "StanfordCars": "split",
}


def load_torchvision(rest: str, *, root: Path | None = None) -> HeldProbes:
    """Load ``NAME/SPLIT`` of torchvision's datasets, downloading it where that is possible.

    Args:
        rest: The SPEC without ``torchvision:``, e.g. ``"CIFAR10/test"``.
        root: Where its files are and go; the folder ``torchvision`` of the cache where ``None``.

    Raises:
        UnknownNameError: The dataset is not known.
        InputError: The part is missing or not known.
        UnavailableError: Its files are not there and cannot be downloaded here.
    """
    name, _, part = rest.partition("/")
    if name not in TORCHVISION:
        raise unknown("torchvision dataset", name, tuple(TORCHVISION))
    root = root or cache_folder() / "torchvision"
    from torchvision import datasets

    make = getattr(datasets, name)
    arguments = {"root": root, **_part(name, part)}
    try:
        dataset = make(**arguments)
    except (RuntimeError, OSError) as missing:
        dataset = _downloaded(make, arguments, name=name, missing=missing)
    except ValueError as error:
        raise InputError(f"torchvision:{rest}: {' '.join(str(error).split())}") from error
    return from_dataset(dataset, name=f"torchvision:{rest}")


def _part(name: str, part: str) -> dict[str, Any]:
    kind = TORCHVISION[name]
    if kind == "":
        if part:
            raise InputError(f"torchvision:{name} has no parts; leave out {part!r}")
        return {}
    if not part:
        raise InputError(f"torchvision:{name} has parts; say which, e.g. torchvision:{name}/test")
    if kind == "split":
        return {"split": part}
    if part not in ("train", "test"):
        raise InputError(f"torchvision:{name} has the parts train and test, not {part!r}")
    return {"train": part == "train"}


def _downloaded(make: Any, arguments: dict[str, Any], *, name: str, missing: Exception) -> Any:
    advice = (
        f"torchvision:{name} is not in {str(arguments['root'])!r} and cannot be downloaded here; "
        "put its files there, or use images without network: a folder, FILE.parquet or scenes"
    )
    if "download" not in inspect.signature(make).parameters:
        raise UnavailableError(advice) from missing
    try:
        arguments["root"].mkdir(parents=True, exist_ok=True)
        return make(**arguments, download=True)
    except (RuntimeError, OSError) as error:
        raise UnavailableError(f"{advice} ({' '.join(str(error).split())[:200]})") from error


def load_hub(rest: str) -> HeldProbes:
    """Load ``REPO/SPLIT`` with the `datasets` library.

    ``REPO`` is a dataset of the hub (``owner/name``, or ``owner/name:configuration``), or a
    folder that ``save_to_disk`` wrote. The first image column is read, and the first class label.

    Raises:
        UnavailableError: The library is not installed, or the hub cannot be reached.
        InputError: There is no such part, or no image column.
        MissingError: The hub has no such dataset.
    """
    datasets = require_datasets()
    repo, _, part = rest.rpartition("/")
    if not repo or not part:
        raise InputError(f"images 'hf:{rest}' must be hf:REPO/SPLIT, e.g. hf:uoft-cs/cifar10/test")
    table = load_saved(repo, part) if Path(repo).is_dir() else _from_hub(repo, part)
    column, label = image_column(table.features, f"hf:{rest}")
    names = tuple(table.features[label].names) if label else None
    labels = [-1 if v is None else v for v in table[label]] if label else None
    raw = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    ids = [f"row-{row}" for row in range(len(table))]

    def read(index: int, at_least: int | None) -> Any:
        value = raw[index][column] or {}
        source = value.get("bytes") or value.get("path") or b""
        return decode(source, name=ids[index], at_least=at_least)

    return HeldProbes(
        read,
        ids,
        name=f"hf:{rest}",
        fingerprint=lambda: fingerprint("hf", table._fingerprint, column),
        labels=check_labels(labels, count=len(table), names=names),
        label_names=names,
    )


def require_datasets() -> Any:
    """Return the `datasets` library.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UnavailableError(
            "images 'hf:…' need the datasets library: pip install 'neuronym[datasets]'"
        ) from error
    return datasets


def image_column(features: Any, name: str) -> tuple[str, str | None]:
    """Return the first image column of a dataset, and its first class label if it has one.

    Raises:
        InputError: There is no image column.
    """
    datasets = require_datasets()
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    if not images:
        raise InputError(f"images {name!r} has no image column; it has {', '.join(features)}")
    classes = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    return images[0], classes[0] if classes else None


def load_saved(folder: str, part: str) -> Any:
    """Return one split of a folder that ``save_to_disk`` wrote.

    Raises:
        InputError: The folder is another one, or has no such split.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(
            f"folder {folder!r} was not written by save_to_disk: {' '.join(str(error).split())}"
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if part not in loaded:
            raise unknown(f"split of {folder!r}", part, tuple(loaded))
        return loaded[part]
    if str(loaded.split or part) != part:
        raise unknown(f"split of {folder!r}", part, (str(loaded.split),))
    return loaded


def _from_hub(repo: str, part: str) -> Any:
    import datasets

    name, _, configuration = repo.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None, split=part)
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError) as error:
        raise MissingError(
            f"images 'hf:{repo}/{part}': no such dataset on the hub or in the cache: "
            f"{' '.join(str(error).split())}"
        ) from error
    except ValueError as error:
        raise InputError(f"images 'hf:{repo}/{part}': {' '.join(str(error).split())}") from error
    except (OSError, ConnectionError) as error:
        raise UnavailableError(
            f"images 'hf:{repo}/{part}' need the hub, which cannot be reached; use images without "
            "network: a folder, FILE.parquet or scenes"
        ) from error
