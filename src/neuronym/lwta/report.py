"""What a conversion or a sparsification did, as data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ConversionReport",
    "FunctionalCall",
    "KeptModule",
    "ReplacedSite",
    "SparseLayer",
    "SparsityReport",
]


@dataclass(frozen=True)
class ReplacedSite:
    """One activation module that is an LWTA module now.

    Attributes:
        name: Its name in the model.
        original: Class name of the module that it replaces.
        channel_dim: The dimension of the units.
        channels: Number of units in each call, in the order of the calls.
        competitors: U.
        aliases: Other names of the same module, where the model shares it.
    """

    name: str
    original: str
    channel_dim: int
    channels: tuple[int, ...]
    competitors: int
    aliases: tuple[str, ...] = ()

    @property
    def calls(self) -> int:
        """Calls in one forward."""
        return len(self.channels)


@dataclass(frozen=True)
class KeptModule:
    """One activation module that stays, and why."""

    name: str
    original: str
    reason: str


@dataclass(frozen=True)
class FunctionalCall:
    """Activations that a forward computes by a function, which no conversion can replace.

    Attributes:
        module: Name of the module in whose forward it happens (``""`` for the model itself).
        function: Name of the function, e.g. ``"relu"``.
        calls: How often in one forward.
    """

    module: str
    function: str
    calls: int


@dataclass(frozen=True)
class ConversionReport:
    """What :func:`neuronym.lwta.convert` did.

    Attributes:
        replaced: In the order of the model's modules.
        kept: Activations that a rule, ``skip`` or the example's path left alone.
        functional: Activations that are called as functions.
        already: Names of LWTA modules that the model had before.
    """

    replaced: tuple[ReplacedSite, ...]
    kept: tuple[KeptModule, ...]
    functional: tuple[FunctionalCall, ...]
    already: tuple[str, ...]

    def __str__(self) -> str:
        """Return a few lines for people."""
        if not self.replaced and self.already:
            return f"already competitive: {len(self.already)} LWTA modules, nothing to replace"
        lines = [f"{len(self.replaced)} activations replaced"]
        for site in self.replaced:
            channels = " ".join(map(str, site.channels))
            lines.append(
                f"  {site.name or '(model)'}: {site.original} -> {site.competitors} competitors, "
                f"channel_dim {site.channel_dim}, channels {channels}"
            )
        lines += [f"  kept {part.name}: {part.original} ({part.reason})" for part in self.kept]
        for call in self.functional:
            place = call.module or "the model's forward"
            lines.append(f"  not replaceable: {call.function} called {call.calls}x in {place}")
        if self.already:
            lines.append(f"  {len(self.already)} modules were LWTA before")
        return "\n".join(lines)


@dataclass(frozen=True)
class SparseLayer:
    """One linear map after an LWTA layer, and what it takes both ways.

    Attributes:
        name: Its name in the model.
        competition: Name of the LWTA module whose output it reads (the first, where several).
        shapes: Shape of its input in each call, in the order of the calls.
        dense_ms: Best time of all its calls in milliseconds, evaluated densely; ``None`` where
            nothing was timed.
        sparse_ms: The same, reading only the winners' columns.
        sparse: Whether it reads only the winners' columns now.
        reason: Why not, else empty.
    """

    name: str
    competition: str
    shapes: tuple[tuple[int, ...], ...]
    dense_ms: float | None
    sparse_ms: float | None
    sparse: bool
    reason: str = ""


@dataclass(frozen=True)
class SparsityReport:
    """What :func:`neuronym.lwta.sparsify` did.

    Attributes:
        layers: Every linear map that reads an LWTA layer's output, in the order of the model.
        threads: Number of threads that the times were taken with.
    """

    layers: tuple[SparseLayer, ...]
    threads: int

    def __str__(self) -> str:
        """Return a few lines for people."""
        count = sum(layer.sparse for layer in self.layers)
        lines = [f"{count} of {len(self.layers)} linear maps after LWTA read the winners only"]
        for layer in self.layers:
            times = ""
            if layer.dense_ms is not None and layer.sparse_ms is not None:
                times = f": {layer.dense_ms:.2f} ms dense, {layer.sparse_ms:.2f} ms sparse"
            way = "sparse" if layer.sparse else f"dense ({layer.reason})"
            lines.append(f"  {layer.name} after {layer.competition or '(model)'}{times} -> {way}")
        return "\n".join(lines)
