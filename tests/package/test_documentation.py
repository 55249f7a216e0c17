"""Each public name has its page in the documentation, each page is in a table of contents, and links lead to files."""

import re
from pathlib import Path

import pytest

import tvb_jaxfit

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "gallery", "generated"} & set(path.parts))
API = (DOCS / "api.md").read_text()


def _entries(module):
    """Names that docs/api.md lists below a module."""
    blocks = re.findall(r"\.\. currentmodule:: (\S+)\n(.*?)```", API, re.DOTALL)
    return [name for of, block in blocks if of == module for name in re.findall(r"^   (\w+)$", block, re.MULTILINE)]


@pytest.mark.parametrize("module", [tvb_jaxfit, tvb_jaxfit.plot], ids=lambda module: module.__name__)
def test_each_public_name_has_one_entry_in_the_api_index(module):
    assert sorted(_entries(module.__name__)) == sorted(module.__all__)


def test_each_page_is_in_a_table_of_contents():
    listed = {DOCS / "index.md"}
    for page in PAGES:
        for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {page.parent / f"{entry}.md" for entry in entries}
    assert set(PAGES) <= listed
    # The demos make the gallery.
    assert {page for page in listed if not page.exists()} <= {DOCS / "gallery" / "index.md"}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        folder, _, name = link.rpartition("/")
        # The site makes the gallery from the demos.
        is_made = folder.endswith("gallery") and (name == "index" or (ROOT / "demos" / f"{name}.py").exists())
        assert is_made or (page.parent / link).exists(), link
