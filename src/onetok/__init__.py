"""onetok: an image as a short 1D sequence of tokens. Four papers, from params files to their tables."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onetok.inference import ImageTokenizer, load_tokenizer

__all__ = ["ImageTokenizer", "load_tokenizer"]


def __getattr__(name: str) -> Any:
    """Import torch only for those who ask for what needs it: Snakemake imports this package too."""
    if name in __all__:
        from onetok import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'onetok' has no attribute {name!r}")
