"""Configuration of the documentation. CONTRIBUTING.md has the command that builds it."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
# The working tree is documented, also where an older copy is installed.
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_extensions")]

import tvb_jaxfit  # noqa: E402

project = "tvb_jaxfit"
author = "The tvb_jaxfit developers"
copyright = f"2026, {author}"
version = release = tvb_jaxfit.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "public_names",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.json", "gallery/*.zip"]
templates_path = ["_templates"]

# Markdown pages
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# API pages. Types stand in the docstrings' tables; without a network there is nothing to link the hints to.
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Names in single backticks become links where they can be imported, and are set in italics elsewhere.
default_role = "autolink"

nitpicky = True
nitpick_ignore_regex = [
    # Other projects: the site is built without a network, so there is no inventory to look them up in.
    ("py:.*", r"(jax|numpy|optax|sys|tvb)\..*"),
    # Modules and names below the public ones have no pages.
    ("py:obj", r"tvb_jaxfit\.\w+\..*"),
]

# The gallery. Each demo runs once; `-D plot_gallery=0` shows prose and code without running anything.
sphinx_gallery_conf = {
    "examples_dirs": ["../demos"],
    "gallery_dirs": ["gallery"],
    "reset_argv": "demo_options.demo_options",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "copyfile_regex": "",
    "image_scrapers": ("matplotlib",),
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "write_computation_times": False,
}

# HTML
html_theme = "pydata_sphinx_theme"
html_title = "tvb_jaxfit"
html_static_path = ["_static"]
html_css_files = ["tvb_jaxfit.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
# Pages without subpages have nothing to show in the left column.
html_sidebars = {"getting_started": [], "changelog": []}
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
