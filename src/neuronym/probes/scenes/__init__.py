"""Procedurally rendered scenes with exact attribute labels."""

from neuronym.probes.scenes.attributes import ATTRIBUTES, GROUPS, AttributeTable
from neuronym.probes.scenes.render import Rendered, render_scene
from neuronym.probes.scenes.sampling import Scene
from neuronym.probes.scenes.sets import DEFAULT_SCENES, DEFAULT_TASK, SceneSet, render_many

__all__ = [
    "ATTRIBUTES",
    "DEFAULT_SCENES",
    "DEFAULT_TASK",
    "GROUPS",
    "AttributeTable",
    "Rendered",
    "Scene",
    "SceneSet",
    "render_many",
    "render_scene",
]
