"""Sphinx extension: a page shows equations of the chapters again, by their labels.

    ```{formula} eq-icl-error
    The error on new tasks.
    ```

sets the words beside the equation as it stands in its chapter, with its number as a link, and
names the functions of the package whose docstrings give it as their source.
"""

import inspect
import re

from docutils import nodes
from reference import LABEL, public
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective


class formula(nodes.Element):  # noqa: N801, as docutils names the visitors after it
    """Where an equation will stand: its label, until all chapters have been read."""


class Formula(SphinxDirective):
    """Set an equation of a chapter, and say in words what it is."""

    required_arguments = 1
    has_content = True

    def run(self):
        """Return the words, the number and the place of the equation."""
        label = self.arguments[0]
        words = nodes.container(classes=["formula-words"])
        self.content[-1] += f" {{eq}}`{label}`"
        self.state.nested_parse(self.content, self.content_offset, words)
        row = nodes.container("", words, formula(label=label), classes=["formula"])
        return [row]


class ShowFormulas(SphinxPostTransform):
    """Fetch the equations from the chapters, and the names of their functions."""

    default_priority = 4  # before names become links, and references are resolved

    def run(self, **kwargs):
        """Carry this out for one document."""
        places = list(self.document.findall(formula))
        functions = sources() if places else {}
        for place in places:
            label = place["label"]
            if label not in self.env.get_domain("math").equations:
                raise ExtensionError(f"{self.env.docname}: no equation has the label {label}")
            chapter = self.env.get_doctree(self.env.get_domain("math").equations[label][0])
            blocks = chapter.findall(nodes.math_block)
            text = next(block.astext() for block in blocks if block.get("label") == label)
            shown = [nodes.math_block(text, text, nowrap=False, number=None, label=None)]
            if names := functions.get(label):
                code = nodes.paragraph(classes=["formula-code"])
                for name in names:
                    code += [nodes.literal(name, name), nodes.Text(" ")]
                shown.append(code)
            place.replace_self(shown)


def sources():
    """Return the paths of the functions that name an equation as their source, by its label."""
    found = {}
    for item, path in public().items():
        source = re.search(r"Source: (.*?)(\n\n|$)", inspect.getdoc(item) or "", re.DOTALL)
        for match in LABEL.finditer(source[1] if source else ""):
            found.setdefault(match[0], []).append(path)
    return found


def setup(app):
    """Register the extension with Sphinx."""
    app.add_node(formula)
    app.add_directive("formula", Formula)
    app.add_post_transform(ShowFormulas)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
