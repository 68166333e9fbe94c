"""Neuronym: vision networks whose neurons compete, and words for what each neuron does.

Importing this package is light; its sub-packages are the namespaces::

    from neuronym import concepts, dissect, explain, lwta, probes, vision_text
"""

from neuronym._version import __version__

__all__ = ["__version__"]
