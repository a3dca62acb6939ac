"""How the documentation site is made: `make docs`, or `python -m sphinx -W -c docs . build/docs`.

The source folder is the whole repository, so that a link from a page of docs/ to one of results/ is the same on a Git
forge and on the site; `include_patterns` says what becomes a page. Nothing is fetched, neither to build nor to read.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.pycode import ModuleAnalyzer
from sphinx.roles import XRefRole
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from dynamic_tinybert import __version__  # noqa: E402 - the tree's own, installed or not

project = "dynamic-tinybert"
author = "The dynamic-tinybert developers"
copyright = "the dynamic-tinybert developers, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/*.rst",
    "docs/api/*.rst",
    "results/**.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "src/dynamic_tinybert/embedded/README.md",
    "models/*/src/*/README.md",
]
exclude_patterns = [".*", "build", "dist", "docs/_*"]
if sys.version_info < (3, 11):  # which haystack needs
    exclude_patterns.append("docs/api/haystack.rst")

# Pages that are reached by links, not by the navigation.
_ASIDE = re.compile(r"README|results/(?!README$).*|(?:src|models)/.*")

# -- Markdown ---------------------------------------------------------------------------------------------------------

myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
suppress_warnings = [
    *(["toc.excluded"] if sys.version_info < (3, 11) else []),
    "myst.header",  # a page of results may begin where it likes
    "toc.not_readable",  # a place in the navigation may wait for its page; a page without a place is an error
]

# -- The API, from the docstrings -------------------------------------------------------------------------------------

default_role = "py:house"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
maximum_signature_line_length = 110
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False  # the signature has them
# Not installed to make the site: gigabytes, for signatures.
autodoc_mock_imports = ["accelerate", "matplotlib", "optuna", "sqlalchemy", "tantivy", "torch"]
autodoc_mock_imports += ["pymilvus", "ray", "transformers"]
autodoc_mock_imports += ["fastapi", "prometheus_client", "pythonjsonlogger", "starlette", "uvicorn"]
autodoc_mock_imports += ["langchain_core", "llama_index"]
autodoc_mock_imports += ["anyio", "mcp", "mcp_types", "opentelemetry"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:house", ".*"),  # `text` in a docstring is a link where it is a name, and code where it is none
    # What other projects document, of whom nothing is fetched.
    ("py:.*", r"(collections|concurrent|contextlib|datetime|enum|os|pathlib|re|socket|threading|types|typing)\..*"),
    ("py:.*", r"(annotated_types|huggingface_hub|np|npt|numpy|onnxruntime|optuna|pydantic|rich|typing_extensions)\..*"),
    ("py:.*", r"(fastapi|haystack|langchain_core|llama_index|mcp|ray|starlette|tantivy|torch|transformers|typer)\..*"),
    ("py:class", "FieldInfo|Ge|Gt|Le|Lt|MinLen|NoneType|_PydanticGeneralMetadata|QuestionAnsweringModelOutput"),
    ("py:class", "ArrayLike|NDArray|Path|Tensor|Unpack"),
    ("py:class", "Callbacks|QueryBundle|RunnableConfig"),  # of LangChain and LlamaIndex
    # What is inside of our rooms.
    ("py:class", r"dynamic_tinybert\.(runtime\.onnx_writer|folder\.tensors|inference\.stream|train\.dropping)\..*"),
    ("py:class", r"dynamic_tinybert\.serve\.engine\.metrics\..*"),
    ("py:class", r"dynamic_tinybert\.serve\.http\.problems\.FieldProblem"),
]

# -- HTML -------------------------------------------------------------------------------------------------------------

html_theme = "furo"  # of the themes that are kept, the one that by itself asks no other host for anything
html_title = f"dynamic-tinybert {__version__.partition('+')[0]}"
html_static_path = ["_static"]
html_css_files = ["pictures.css", "site.css"]
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}  # the site's root leads to its front page
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

_log = logging.getLogger(__name__)


class HouseRole(XRefRole):
    """Single backticks in a docstring: a link where they name something that the site documents, else code."""

    def process_link(
        self, env: Any, refnode: Any, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Look the name up wherever it is documented, as `Runtime.run` in `dynamic_tinybert.runtime`."""
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        return title, target


class Pictures(SphinxPostTransform):
    """Put our drawings into the page itself, so that their colours follow the page's, and their text is text."""

    default_priority = 5  # before images are collected
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace each image of docs/pictures by what is in its file."""
        for image in list(self.document.findall(nodes.image)):
            path = ROOT / image["uri"]
            if path.suffix == ".svg" and path.parent == ROOT / "docs" / "pictures":
                drawing = re.sub(r"^<\?xml.*?\?>\s*", "", path.read_text("utf-8"))
                # A block of its own that scrolls by itself where the page is narrower than its text can be small.
                block = nodes.raw("", f'<div class="picture">{drawing}</div>', format="html")
                parent = image.parent
                if isinstance(parent, nodes.paragraph) and len(parent) == 1:
                    parent.replace_self(block)
                else:
                    image.replace_self(block)


def _house_reference(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Look a name up wherever it is documented: what `HouseRole` asks for, and names of types in signatures.

    Of several candidates, or none, what stood in backticks stays code.
    """
    if node.get("refdomain") != "py":
        return None
    ours = node["reftype"] == "house"
    unresolved = content if ours else None
    target = node["reftarget"].removesuffix("()")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", target):
        return unresolved
    domain = env.get_domain("py")
    told = not ours or "." in target or target[0].isupper()  # `full` alone may mean anything
    for mode in (0, 1) if told else (0,):
        found = domain.find_obj(env, node.get("py:module"), node.get("py:class"), target, None, mode)
        places = {(entry.docname, entry.node_id): (name, entry) for name, entry in found}
        if len(places) == 1:
            ((name, entry),) = places.values()
            if entry.objtype == "module" and "." not in target:
                return unresolved
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)
    return unresolved


def _signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Show a recipe's settings with their defaults, without pydantic's constraints; and no default as <factory>."""
    fields = getattr(obj, "model_fields", None)
    if what == "class" and isinstance(fields, dict):
        settings = [key if field.is_required() else f"{key}={field.get_default()!r}" for key, field in fields.items()]
        return f"({', '.join(settings)})", None
    return _plain(signature or "") or None, _plain(returns or "") or None


def _plain(signature: str) -> str:
    """Write types as the source does, and leave what is private out."""
    signature = re.sub(r"~?numpy\.ndarray\[tuple\[.*?\], ~?numpy\.dtype\[~?([\w.]+)\]\]", r"NDArray[~\1]", signature)
    signature = re.sub(r"~?[\w.]*_Buffer \|.*?complex \| bytes \| str\]", "ArrayLike", signature)
    signature = re.sub(r", _\w+: (?:[^,\[\])]|\[[^\]]*\])+(?=[,)])", "", signature)
    return signature.replace("<factory>", "...")


def _colons(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Take back what napoleon makes of a colon in the first line of a property or an alias: no type is before it."""
    if what in ("data", "property", "attribute"):
        for i, line in enumerate(lines):
            if line.startswith(":type: "):
                lines[:] = [f"{line.removeprefix(':type: ')}: {lines[0]}", *lines[1:i], *lines[i + 1 :]]
                return


def _everything_is_documented(app: Sphinx, env: Any) -> list[str]:
    """Complain of what `from dynamic_tinybert import *` gives and no page documents."""
    import dynamic_tinybert

    documented = {name.split(".")[-1] for name in env.get_domain("py").objects}
    for name in dynamic_tinybert.__all__:
        if name not in documented and not name.startswith("__"):
            _log.warning("dynamic_tinybert.%s is in __all__, and no page of docs/api documents it", name)
    return []


def _fit_in(app: Sphinx, doctree: nodes.document) -> None:
    """Ask no place in the navigation for pages that only links lead to; and let a link to a folder be plain text."""
    if _ASIDE.fullmatch(app.env.docname):
        app.env.metadata[app.env.docname]["orphan"] = True
    here = (ROOT / app.env.docname).parent
    for reference in list(doctree.findall(addnodes.pending_xref)):
        if reference.get("reftype") == "myst" and (here / reference["reftarget"]).is_dir():
            reference.replace_self(reference.children)


def _whole_signatures(app: Sphinx) -> None:
    """Show a call that has many forms once, with all its options and their defaults; its text says what it returns."""
    for name in ("qa", "corpus.corpus"):
        file = ROOT / "src" / "dynamic_tinybert" / f"{name.replace('.', '/')}.py"
        analyzer = ModuleAnalyzer.for_file(str(file), f"dynamic_tinybert.{name}")
        analyzer.analyze()
        analyzer.overloads.clear()
        ModuleAnalyzer.cache["module", f"dynamic_tinybert.{name}"] = analyzer


def setup(app: Sphinx) -> None:
    """Add what is ours."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("builder-inited", _whole_signatures)
    app.add_role_to_domain("py", "house", HouseRole(innernodeclass=nodes.literal))
    app.connect("missing-reference", _house_reference)
    app.connect("doctree-read", _fit_in)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _colons, priority=600)  # after napoleon
    app.connect("env-updated", _everything_is_documented)
    app.add_post_transform(Pictures)
