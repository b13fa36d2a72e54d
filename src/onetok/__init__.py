"""onetok: an image as a short 1D sequence of tokens. Four papers, from params files to their tables."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onetok.generation import ImageGenerator, load_generator
    from onetok.inference import ImageTokenizer, load_tokenizer

__all__ = ["ImageGenerator", "ImageTokenizer", "load_generator", "load_tokenizer"]

_MODULES = {
    "ImageGenerator": "onetok.generation",
    "ImageTokenizer": "onetok.inference",
    "load_generator": "onetok.generation",
    "load_tokenizer": "onetok.inference",
}


def __getattr__(name: str) -> Any:
    """Import torch only for those who ask for what needs it: Snakemake imports this package too."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'onetok' has no attribute {name!r}")
