"""Sphinx's configuration. The pages of the reference are made from docs/api.md (see _ext/reference.py)."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # examples take seconds, and more threads would make their times vary

project = "ntkfast"
author = "The ntkfast developers"
copyright = author
try:
    release = version = importlib.metadata.version("ntkfast")
except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
    release = version = ""

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_gallery.gen_gallery",
    "reference",
]
exclude_patterns = ["_build", "examples", "gallery/**/*.ipynb"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# Markdown
myst_enable_extensions = ["deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3

highlight_language = "none"  # of formulas; code says its own

# The reference
default_role = "py:obj"  # `ntk` in a docstring links to ntkfast.ntk
autodoc_typehints = "none"  # numpydoc's sections say what a parameter is
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
toc_object_entries = False

# The gallery
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"[/\\]plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "abort_on_example_error": True,
    "reference_url": {},
    "min_reported_time": 1,
    "capture_repr": (),
    "show_signature": False,
    "write_computation_times": False,
}

# Pages: no fonts, scripts or styles from elsewhere
html_theme = "furo"
html_title = "ntkfast"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}


def boxed(app, page, template, context, doctree):
    """Pictures of the gallery in boxes, in which they scroll where the screen is narrow."""
    if page.startswith("gallery/"):
        context["body"] = re.sub(r"<img [^>]*sphx-glr-single-img[^>]*>", r"<p>\g<0></p>", context["body"])


def setup(app):
    app.connect("html-page-context", boxed)
