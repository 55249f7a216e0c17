"""Formulas as MathML, made when the site is built: a browser shows them without a script from the network."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def _visit_math(writer, node):
    writer.body.append(convert(node.astext()))
    raise SkipNode


def _visit_equation(writer, node):
    formula = node.astext()
    if r"\\" in formula and r"\begin" not in formula:
        formula = rf"\begin{{split}} {formula} \end{{split}}"
    writer.body.append(f'<div class="equation">{convert(formula, display="block")}</div>')
    raise SkipNode


def setup(app):
    """Register the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_equation, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
