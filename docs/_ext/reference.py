"""The pages of the reference, one for each public name, and docstrings made ready for reStructuredText.

The names and their groups are those of the tables in docs/api.md, which tests/test_api.py compares with the package.
"""

import importlib.util
import inspect
import re
from operator import attrgetter
from pathlib import Path

from sphinx.ext.autodoc.mock import mock
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

import ntkfast

FOLDER = "reference"
ROW = re.compile(r"^\| `([^`(]+)(?:\(.*\))?` \| (.+) \|$")
ON_ONE_PAGE = ("activations.",)  # short entries that belong together
ABSENT = [name for name in ("torch", "gpytorch", "linear_operator") if importlib.util.find_spec(name) is None]
PREFIXES = ("", "activations.", "sklearn.", "store.", "gpytorch.", "datasets.")  # where a name is looked up


def sections(text):
    """Title -> {name of a page: [names on it]}, from the tables of api.md."""
    found, title = {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif (row := ROW.match(line)) and title:
            name = row[1]
            shared = next((prefix for prefix in ON_ONE_PAGE if name.startswith(prefix)), None)
            pages = found.setdefault(title, {})
            pages.setdefault(shared.rstrip(".") if shared else page_of(name, pages), []).append(name)
    return found


def page_of(name, found):
    """A method is on the page of its class."""
    owner = name.rpartition(".")[0]
    return owner if owner in found and not inspect.ismodule(available(owner)) else name


def available(name):
    """The object of a public name. What it derives from is imitated where the library is not installed."""
    with mock(ABSENT):
        return attrgetter(name)(ntkfast)


def page(name, names):
    thing = available(name)
    lines = [name, "=" * len(name), "", ".. currentmodule:: ntkfast", ""]
    if name == "activations":
        lines += [f".. autofunction:: ntkfast.{entry}\n" for entry in names]
    elif isinstance(thing, type):
        lines += [f".. {'autoexception' if issubclass(thing, Exception) else 'autoclass'}:: ntkfast.{name}", ""]
        for method in [entry.removeprefix(f"{name}.") for entry in names if entry != name]:
            kind = "autoproperty" if is_property(thing, method) else "automethod"
            lines += [f"   .. {kind}:: ntkfast.{name}.{method}", ""]
    elif callable(thing):
        lines += [f".. autofunction:: ntkfast.{name}"]
    else:
        module = importlib.import_module(f"ntkfast.{name}")
        lines += [*prepared((module.__doc__ or "").splitlines())]
    return "\n".join(lines) + "\n"


def is_property(thing, name):
    return not callable(vars(thing).get(name)) and not isinstance(vars(thing).get(name), classmethod | staticmethod)


def summary(name):
    """The first sentence of a docstring, in one line."""
    thing = available(name)
    if name == "activations":
        return "Every activation, by name."
    first = re.split(r"\n\s*\n", (thing.__doc__ or "").strip())[0]
    return escaped(" ".join(first.split()))


def file_of(name, pages):
    """`Kernels` and `kernels` are one file on some systems."""
    return f"{name}-class" if name != name.lower() and name.lower() in pages else name


def slug(title):
    return "group-" + re.sub(r"[^a-z]+", "-", title.lower()).strip("-")


def write(path, text):
    """Unless it is there already: Sphinx reads again what has a new date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def generate(app, config):
    config.autodoc_mock_imports = ABSENT
    folder, found = Path(app.srcdir) / FOLDER, sections((Path(app.srcdir) / "api.md").read_text(encoding="utf-8"))
    for title, pages in found.items():
        lines = [title, "=" * len(title), "", ".. list-table::", "   :widths: 35 65", ""]
        for name in pages:
            lines += [f"   * - :doc:`{file_of(name, pages)}`", f"     - {summary(name) or ' '}"]
        lines += ["", ".. toctree::", "   :hidden:", "", *(f"   {file_of(name, pages)}" for name in pages)]
        write(folder / f"{slug(title)}.rst", "\n".join(lines) + "\n")
        for name, names in pages.items():
            write(folder / f"{file_of(name, pages)}.rst", page(name, names))
    text = [
        "Reference",
        "=========",
        "",
        "Every public name, from its docstring; :doc:`/api` has all signatures at once.",
    ]
    text += ["", ".. toctree::", "   :maxdepth: 2", "", *(f"   {slug(title)}" for title in found)]
    write(folder / "index.rst", "\n".join(text) + "\n")


def escaped(line):
    """A line of prose, whose formulas have characters that mean something else to reStructuredText."""
    parts = re.split(r"(``[^`]*``|`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part) for part in parts)


def prepared(lines):
    """A docstring with formulas (paragraphs that are indented more than the text before) as literal blocks."""
    done, literal, before, blank, example, underline = [], None, 0, True, False, False
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            blank, example = True, False
            done.append(line)
            continue
        if literal is not None and indent < literal:
            literal = None
        example = example or text.startswith(">>>")
        if literal is None and not example and blank and indent > before and done and not underline:
            done += [" " * before + "::", ""]
            literal = indent
        if literal is None:
            before = indent
        keep = literal is not None or example or set(text) == {"-"}
        name, colon, rest = text.rpartition(" : ") if indent == 0 else ("", "", text)  # names of parameters stay
        done.append(line if keep else " " * indent + name + colon + escaped(rest))
        blank, underline = False, set(text) == {"-"}
    return done


def process(_app, _what, _name, _thing, _options, lines):
    lines[:] = prepared(lines)


def constructor(_app, _what, _name, thing, _options, arguments, returned):
    """The arguments of a class that derives from one that is imitated."""
    if arguments != "(*args, **kwargs)":
        return arguments, returned
    return stringify_signature(signature_of(thing.__init__, bound_method=True), show_annotation=False), returned


def resolve(app, env, node, contnode):
    """A link to a name as docstrings write it, without the package: `LeastSquaresFlow.mean`, `NTKRegressor`."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("nf.")
    objects = env.get_domain("py").objects
    found = next((full for prefix in PREFIXES if (full := f"ntkfast.{prefix}{target}") in objects), None)
    if found is None:
        return None
    entry = objects[found]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found)


def link_names(app, page, source):
    """`nf.ntk` in a page of Markdown links to its page of the reference."""
    if not str(app.env.doc2path(page)).endswith(".md"):
        return
    source[0] = re.sub(r"(?<!`)`(nf\.[\w.]+)`(?!`)", r"{py:obj}`\1`", source[0])


def setup(app):
    app.connect("source-read", link_names)
    app.connect("missing-reference", resolve)
    app.connect("config-inited", generate)
    app.connect("autodoc-process-signature", constructor)
    app.connect("autodoc-process-docstring", process, priority=400)  # before numpydoc
    return {"parallel_read_safe": True}
