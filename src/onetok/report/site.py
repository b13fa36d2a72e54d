"""The site: the repository's pages, built by MkDocs. A link to what is not there is an error.

Pages are copied as they lie in the repository, so that a link means the same on the site, on disk and on a Git host.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from onetok.errors import OnetokError

PAGES = ("*.md", "docs/*/*.md", "studies/*/README.md", "studies/*/evidence/figures/*/*/figure.png")
CONFIG = Path("docs/mkdocs.yml")


def build_site(repository: Path, out: Path) -> None:
    """Build the site into a folder, which is replaced if it was built before.

    Raises OnetokError where MkDocs is not installed, where the folder holds something else, and for dead links and
    missing pages, all of which it lists.
    """
    try:
        from mkdocs.commands.build import build
        from mkdocs.config import load_config
        from mkdocs.exceptions import MkDocsException
    except ImportError:
        raise OnetokError(
            "mkdocs is not installed, expected it in this environment: pip install onetok[dev]"
        ) from None
    if out.exists() and not (out / "index.html").is_file():
        raise OnetokError(f"{out}: exists and is no site, expected a new folder")
    with TemporaryDirectory() as folder:
        source, built = Path(folder) / "source", Path(folder) / "site"
        copy_pages(repository, source)
        config = load_config(str(repository / CONFIG), docs_dir=str(source), site_dir=str(built), strict=True)
        warnings = _Warnings()
        logging.getLogger("mkdocs").addHandler(warnings)
        try:
            build(config)
        except MkDocsException as error:
            raise OnetokError("\n".join([f"{CONFIG}: {error}", *warnings.lines])) from None
        finally:
            logging.getLogger("mkdocs").removeHandler(warnings)
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, out)


class _Warnings(logging.Handler):
    """Keeps what MkDocs warns of, which in its strict mode are errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(" ".join(record.getMessage().split()))


def pages(repository: Path) -> list[Path]:
    """Return the pages and their pictures."""
    return [page for pattern in PAGES for page in sorted(repository.glob(pattern))]


def copy_pages(repository: Path, folder: Path) -> None:
    """Copy the pages and their pictures to the same relative paths in a folder."""
    for page in pages(repository):
        target = folder / page.relative_to(repository)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)
