"""onetok: an image as a short 1D sequence of tokens. Four papers, from params files to their tables."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onetok.api.captioner import Captioner, load_captioner
    from onetok.api.generator import ImageGenerator, load_generator
    from onetok.api.tokenizer import ImageTokenizer, load_tokenizer

__all__ = [
    "Captioner",
    "ImageGenerator",
    "ImageTokenizer",
    "load_captioner",
    "load_generator",
    "load_tokenizer",
]

_MODULES = {
    "Captioner": "onetok.api.captioner",
    "ImageGenerator": "onetok.api.generator",
    "ImageTokenizer": "onetok.api.tokenizer",
    "load_captioner": "onetok.api.captioner",
    "load_generator": "onetok.api.generator",
    "load_tokenizer": "onetok.api.tokenizer",
}


def __getattr__(name: str) -> Any:
    """Import torch only for those who ask for what needs it: Snakemake imports this package too."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'onetok' has no attribute {name!r}")
