"""The site of all pages: it builds, and what is not there is named."""

from __future__ import annotations

import shutil

import pytest

from onetok.errors import OnetokError
from onetok.report.params_page import params_page
from onetok.report.site import CONFIG, build_site, copy_pages, pages
from onetok.study.schema.study import Study


@pytest.fixture
def copy(repository, tmp_path):
    """The pages of the repository, to be changed."""
    folder = tmp_path / "repository"
    copy_pages(repository, folder)
    shutil.copy(repository / CONFIG, folder / CONFIG)
    return folder


def test_the_site_has_every_page_and_no_dead_link(copy, tmp_path):
    for _ in range(2):  # the second replaces the first
        build_site(copy, tmp_path / "site")
    for page in pages(copy):
        place = page.relative_to(copy).with_suffix("")
        if page.suffix == ".md":
            place = place.parent if place.name == "README" else place
            assert (tmp_path / "site" / place / "index.html").is_file(), page
    home = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "https://fonts" not in home and "studies/miniature/" in home


def test_a_dead_link_and_a_dead_heading_are_named(copy, tmp_path):
    with (copy / "CONTRIBUTING.md").open("a", encoding="utf-8") as page:
        page.write("\n[this](docs/nothing.md) and [that](README.md#no-such-heading)\n")
    with pytest.raises(OnetokError) as error:
        build_site(copy, tmp_path / "site")
    assert "docs/nothing.md" in str(error.value) and "no-such-heading" in str(error.value)
    assert not (tmp_path / "site").exists()


def test_a_folder_of_something_else_is_left_alone(copy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(OnetokError, match="mine: exists and is no site, expected a new folder"):
        build_site(copy, tmp_path / "mine")


def test_every_key_of_params_is_described():
    page, schema = params_page(), Study.model_json_schema()
    for name, definition in schema["$defs"].items():
        assert page.count(f"\n### {name}\n") == 1
        section = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
        for key, content in definition.get("properties", {}).items():
            (row,) = [line for line in section.splitlines() if line.startswith(f"| `{key}` |")]
            assert "any value" not in row, f"{name}.{key}"
            assert "const" in content or content.get("description"), f"{name}.{key} has no description"
