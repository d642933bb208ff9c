"""The documentation as a site: `make docs` builds it into docs/_build/html, with every warning an error."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import zmqservices  # noqa: E402

project = "zmqservices"
author = "the zmqservices authors"
copyright = "the zmqservices authors, Apache License 2.0"
version = release = zmqservices.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["_build"]
#: In docstrings and pages alike, single backticks hold code.
default_role = "code"
nitpicky = False

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False
# Libraries of extras that are not needed to read their providers' documentation.
autodoc_mock_imports = ["sqlalchemy", "redis", "pymemcache", "sentry_sdk"]
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"zmqservices {version}"
html_static_path = ["_static"]
html_css_files = ["wide-tables.css"]
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#9a3412", "color-brand-content": "#9a3412"},
    "dark_css_variables": {"color-brand-primary": "#fb923c", "color-brand-content": "#fb923c"},
}

#: Pages link to each other by file name, so that the links work on a forge as well; here they become links between pages.
_LINK = re.compile(r"`([^`<>]*?)\s*<(?:docs/)?([\w/-]+)\.rst(#[\w-]+)?>`__?")
_ANONYMOUS = re.compile(r"^__ (?:docs/)?([\w/-]+)\.rst$", re.MULTILINE)
#: Beside the docs folder and shown as pages of it.
_BESIDE = {"CHANGES": "changes", "CONTRIBUTING": "contributing", "SECURITY": "security", "README": "index"}


def _as_page_link(match: re.Match[str]) -> str:
    text, page, anchor = match.groups()
    text = " ".join(text.split())
    page = _BESIDE.get(page, page)
    if anchor:
        return f"`{text} <{page}.html{anchor}>`__"
    # A link that shows the file's name shows the page's title here.
    return f":doc:`{text} <{page}>`" if text and text != match[2] + ".rst" else f":doc:`{page}`"


def _link_pages(text: str) -> str:
    # Anonymous targets (a link's text in a table, its target below) come in the same order as the links that use them.
    targets = [_BESIDE.get(page, page) for page in _ANONYMOUS.findall(text)]
    if targets:
        text = _ANONYMOUS.sub("", text)
        remaining = iter(targets)
        text = re.sub(r"`([^`<>\n]+)`__", lambda m: f":doc:`{m.group(1)} <{next(remaining)}>`", text)
    return _LINK.sub(_as_page_link, text)


def _on_read(app: Sphinx, name: str, content: list[str]) -> None:
    content[0] = _link_pages(content[0])


def _on_include(app: Sphinx, relative_path: Path, parent: str, content: list[str]) -> None:
    content[0] = _link_pages(content[0])


def _show_indented_as_code(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """In docstrings, what is indented after an empty line is code or a drawing, whether or not `::` stands before it."""
    if what == "module":
        # Taken as it stands in the file: where all but the first line is indented, Sphinx takes that for the margin.
        lines[:] = [*(obj.__doc__ or "").expandtabs().splitlines(), ""]
    out: list[str] = []
    is_in_block = False
    for line in lines:
        if line and not line.startswith(" "):
            is_in_block = False
        elif line and not is_in_block and out and not out[-1]:
            before = next((text for text in reversed(out) if text), "")
            is_in_block = True
            if not before.endswith("::") and not before.startswith((".. ", "* ", ":")):
                out += ["::", ""]
        out.append(line)
    lines[:] = out


def setup(app: Sphinx) -> None:
    """Called by Sphinx once the settings above are read."""
    app.connect("source-read", _on_read)
    app.connect("include-read", _on_include)
    app.connect("autodoc-process-docstring", _show_indented_as_code)
