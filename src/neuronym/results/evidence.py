"""The evidence of an atlas: what any text is compared with later, without images or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, UnreadableError, nearest
from neuronym.files import atomic_path, existing, fingerprint_file, read_json, write_json

__all__ = ["FOLDER", "Evidence", "SiteEvidence"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FOLDER = "evidence"
SCHEMA = 1
_IMAGES = "images.safetensors"
_WORDS = "words.json"
_ROUNDING = 1e-10
"""A variance below this share of the mean square is rounding: the unit is constant."""
_PER_SITE = ("cross", "sums", "squares", "largest", "smallest")
_SHARED = ("sums", "products", "sample", "background")


@dataclass(frozen=True, eq=False)
class SiteEvidence:
    """What is kept of the units of one site; q are their pooled activations over the N images.

    Attributes:
        cross: ``(units, dim)`` float32, ``Σ (q − q̄)(I − Ī)ᵀ``, I the images' embeddings.
        sums: ``(units,)`` float64, ``Σ q``.
        squares: ``(units,)`` float64, ``Σ q²``.
        largest: ``(units, h)`` float32, the h largest activations, largest first.
        smallest: ``(units, l)`` float32, the l smallest, smallest first, each within 1/16.
    """

    cross: Floats
    sums: Doubles
    squares: Doubles
    largest: Floats
    smallest: Floats

    def __post_init__(self) -> None:
        units = len(self.sums)
        for name in _PER_SITE:
            value = getattr(self, name)
            wide = name in ("cross", "largest", "smallest")
            dtype = np.float32 if wide else np.float64
            if value.dtype != dtype or value.ndim != 1 + wide or len(value) != units:
                raise InputError(
                    f"{name} of the evidence must be {np.dtype(dtype)} of {units} units, not "
                    f"{value.dtype} of shape {value.shape}"
                )
            if not np.isfinite(value).all():
                raise InputError(f"{name} of the evidence hold NaN or infinity")

    def __len__(self) -> int:
        return len(self.sums)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Moments of units and images, from which the correlation with any text follows.

    Attributes:
        count: Images N.
        sums: ``(dim,)`` float64, ``Σ I`` of the vision-text embeddings.
        products: ``(dim, dim)`` float64, ``IᵀI``.
        sample: ``(images, dim)`` float32, embeddings of a random sample of the images.
        words: A random sample of the concept set: what other words there are.
        background: ``(words, dim)`` float32, their embeddings; saved in 16 bits, as the sample.
        sites: Site → its units.

    Raises:
        InputError: The arrays do not fit or are not finite.
    """

    count: int
    sums: Doubles
    products: Doubles
    sample: Floats
    words: tuple[str, ...]
    background: Floats
    sites: Mapping[str, SiteEvidence]

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 2:
            raise InputError(f"evidence must be of at least 2 images, not {self.count!r}")
        dim = len(self.sums)
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "sums": ((dim,), np.float64),
            "products": ((dim, dim), np.float64),
            "sample": ((len(self.sample), dim), np.float32),
            "background": ((len(self.words), dim), np.float32),
        }
        for name, (shape, dtype) in shapes.items():
            value = getattr(self, name)
            if value.dtype != dtype or value.shape != shape:
                raise InputError(
                    f"{name} of the evidence must be {np.dtype(dtype)} of shape {shape}, not "
                    f"{value.dtype} of shape {value.shape}"
                )
            if not np.isfinite(value).all():
                raise InputError(f"{name} of the evidence hold NaN or infinity")
        for site, each in self.sites.items():
            if each.cross.shape[1] != dim:
                raise InputError(
                    f"evidence of site {site!r} is of embeddings of length {each.cross.shape[1]}, "
                    f"the images' are of length {dim}"
                )

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return len(self.sums)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        shared = sum(getattr(self, name).nbytes for name in _SHARED)
        per_site = sum(getattr(e, name).nbytes for e in self.sites.values() for name in _PER_SITE)
        return int(shared + per_site)

    def site(self, name: str) -> SiteEvidence:
        """Return what is kept of a site; :class:`InputError` names the nearest ones."""
        if name not in self.sites:
            close = ", ".join(nearest(name, self.sites) or list(self.sites)[:5])
            raise InputError(f"the evidence has no site {name!r}; nearest: {close}")
        return self.sites[name]

    def mean(self, site: str) -> Doubles:
        """Mean pooled activation of each unit over the images: ``(units,)``."""
        return np.asarray(self.site(site).sums / self.count)

    def deviation(self, site: str) -> Doubles:
        """Standard deviation of each unit's pooled activation: ``√(Σq²/N − q̄²)``, ``(units,)``.

        0 for a unit that is the same on every image, up to rounding.
        """
        squares = self.site(site).squares / self.count
        variance = squares - self.mean(site) ** 2
        return np.sqrt(np.where(variance > _ROUNDING * squares, variance, 0.0))

    def covariance(self) -> Doubles:
        """Covariance of the images' embeddings, ``IᵀI / N − Ī Īᵀ``: ``(dim, dim)``."""
        mean = self.sums / self.count
        return np.asarray(self.products / self.count - np.outer(mean, mean))

    def correlations(self, site: str, texts: npt.NDArray[np.floating]) -> Doubles:
        """Correlation of units and texts over all images.

        ``r(k, t) = C_k · t / (‖q_k − q̄_k‖ √(N tᵀ S t))`` with the cross moments C and the
        covariance S of the embeddings: Pearson's correlation of the unit's activations and the
        dot products ``I · t``.

        Args:
            site: A site.
            texts: ``(texts, dim)`` embeddings.

        Returns:
            ``(units, texts)`` float64, -1 to 1; 0 where either does not vary, up to rounding.

        Raises:
            InputError: There is no such site, or the embeddings are not finite ``(texts, dim)``.
        """
        return self.along(site, self.directions(texts))

    def directions(self, texts: npt.NDArray[np.floating]) -> Doubles:
        """Return ``t / √(N tᵀ S t)``, which serves every site: ``(texts, dim)``.

        0 where a text's scores do not vary. Raises as :meth:`correlations`.
        """
        given = np.asarray(texts)
        if given.ndim != 2 or given.shape[1] != self.dim or not np.isfinite(given).all():
            raise InputError(
                f"texts must be finite embeddings of shape (texts, {self.dim}), not {given.shape}"
            )
        vectors = given.astype(np.float64)
        variance = ((vectors @ self.covariance()) * vectors).sum(1)
        second = variance + (vectors @ (self.sums / self.count)) ** 2
        spread = np.sqrt(np.where(variance > _ROUNDING * second, variance, np.inf) * self.count)
        return np.asarray(vectors / spread[:, None])

    def along(self, site: str, directions: npt.NDArray[np.floating]) -> Doubles:
        """Return the correlations of units with what :meth:`directions` gave, or a part of it."""
        deviation = self.deviation(site)
        length = np.where(deviation > 0, deviation, np.inf) * np.sqrt(self.count)
        found = self.site(site).cross @ directions.T
        return np.asarray(np.clip(found / length[:, None], -1, 1), np.float64)

    def save(self, folder: str | Path) -> dict[str, Any]:
        """Write the arrays into a folder, one file for the images and one per site.

        Returns:
            What the manifest of the atlas holds of it, for :meth:`load`.
        """
        from safetensors.numpy import save_file

        folder = Path(folder)
        tables = {_IMAGES: self._shared()}
        files = {}
        for number, (site, each) in enumerate(self.sites.items()):
            files[site] = f"site-{number:04d}.safetensors"
            tables[files[site]] = {name: getattr(each, name) for name in _PER_SITE}
        for name, arrays in tables.items():
            with atomic_path(folder / name) as temporary:
                save_file({key: np.ascontiguousarray(a) for key, a in arrays.items()}, temporary)
        write_json(folder / _WORDS, list(self.words))
        sums = {name: fingerprint_file(folder / name) for name in (*tables, _WORDS)}
        return {"schema": SCHEMA, "images": self.count, "sites": files, "files": sums}

    def _shared(self) -> dict[str, npt.NDArray]:
        """Return what is written of the images: half of the symmetric products, and samples that
        are rounded to 16 bits, which moves a correlation by some 1e-5."""
        return {
            "sums": self.sums,
            "products": self.products[np.tril_indices(self.dim)],
            "sample": _half(self.sample),
            "background": _half(self.background),
        }

    @classmethod
    def load(cls, folder: str | Path, listed: Mapping[str, Any]) -> Evidence:
        """Read what :meth:`save` wrote.

        Args:
            folder: Where the files are.
            listed: What :meth:`save` returned.

        Raises:
            MissingError: A file is gone.
            UnreadableError: A file is not the one that was written; the text names it.
        """
        folder = Path(folder)
        try:
            if listed["schema"] > SCHEMA:
                raise UnreadableError(
                    f"{str(folder)!r} has schema {listed['schema']} of evidence; this version "
                    f"reads up to {SCHEMA}: update neuronym"
                )
            for name, expected in listed["files"].items():
                _check_file(folder / name, expected)
            shared = _unpacked(_arrays(folder / _IMAGES, _SHARED))
            return cls(
                count=listed["images"],
                words=tuple(str(word) for word in read_json(folder / _WORDS)),
                sites={
                    site: SiteEvidence(**_arrays(folder / name, _PER_SITE))
                    for site, name in listed["sites"].items()
                },
                **shared,
            )
        except (KeyError, TypeError, AttributeError, InputError) as error:
            raise UnreadableError(f"{str(folder)!r} is not whole evidence: {error}") from error


def _half(values: Floats) -> npt.NDArray:
    """Return float16 where its range is enough, else the values as they are."""
    largest = float(np.abs(values).max(initial=0.0))
    return values.astype(np.float16) if 1e-3 < largest < 6e4 else values


def _unpacked(found: dict[str, Any]) -> dict[str, Any]:
    dim = len(found["sums"])
    products = np.zeros((dim, dim))
    rows, columns = np.tril_indices(dim)
    if found["products"].shape != rows.shape:
        raise InputError(f"{found['products'].shape} products of {dim} dimensions")
    products[rows, columns] = products[columns, rows] = found["products"]
    samples = {name: found[name].astype(np.float32) for name in ("sample", "background")}
    return {**found, **samples, "products": products}


def _check_file(path: Path, expected: str) -> None:
    found = fingerprint_file(existing(path, what="evidence file"))
    if found != expected:
        raise UnreadableError(
            f"evidence file {str(path)!r} is damaged: its fingerprint is {found}, not {expected}; "
            "dissect again"
        )


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UnreadableError(f"evidence file {str(path)!r} cannot be read: {error}") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise UnreadableError(f"evidence file {str(path)!r} lacks {', '.join(missing)}")
    return {name: found[name] for name in names}
