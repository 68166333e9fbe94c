"""A scene in words."""

from __future__ import annotations

from collections.abc import Mapping

from neuronym.probes.scenes.sampling import Scene

__all__ = ["caption"]

_PLURALS: Mapping[str, str] = {"cross": "crosses"}
_PLACES: Mapping[str, str] = {
    "backdrop": "on a plain backdrop",
    "sky": "in a cloudy sky",
    "grass": "on grass",
    "sand": "on sand",
    "water": "on water",
    "wood": "on wood",
    "brick": "on a brick wall",
    "night": "in a starry night sky",
    "snow": "in snow",
}
_UNSAID = frozenset({"plain", "smooth"})


def caption(scene: Scene) -> str:
    """Describe a scene, e.g. ``"three small red striped furry stars on grass"``.

    ``plain`` patterns and ``smooth`` textures go without saying.
    """
    shape, count = scene["shape"], scene["count"]
    noun = shape if count == "one" else _PLURALS.get(shape, f"{shape}s")
    words = [count, scene["size"], scene["colour"], scene["pattern"], scene["texture"], noun]
    said = [word for word in words if word not in _UNSAID]
    return " ".join([*said, _PLACES[scene["background"]]])
