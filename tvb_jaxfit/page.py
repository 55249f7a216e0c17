"""Pages: HTML that is escaped by construction, in one file that asks for nothing else."""

import base64
import html
import io

import numpy as np

# Elements that have no content and no end.
_VOID = ("img", "meta")
# Clouds of more points than this are drawn as pixels: as paths they make a page slow.
_CLOUD = 500
# Tables of more rows than this may go on on the next sheet of paper.
_LONG = 25
_STYLE = """
:root { color-scheme: light; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1.5rem; background: #fff; color: #1a1a1a;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #c8c8c8; }
p { margin: .5rem 0; }
.quiet { color: #555; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .3rem; color: #555; font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .875rem; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e2e2e2; }
th { border-bottom-color: #888; }
th[scope] { border-bottom-color: #e2e2e2; font-weight: normal; color: #555; }
td { white-space: pre-wrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { padding: .7rem; background: #f5f5f5; font-size: .8rem; line-height: 1.4; white-space: pre-wrap;
      overflow-wrap: anywhere; }
summary { cursor: pointer; }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { max-width: none; margin: 0; padding: 0; font-size: 10.5pt; }
  h2, h3, h2 + p, summary { break-after: avoid; }
  figure, tr, table:not(.long) { break-inside: avoid; }
  figure img { max-height: 95mm; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding-right: .5rem; }
  pre { background: none; border: 1px solid #c8c8c8; font-size: 8pt; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


class Html(str):
    """Markup that is ready: what `tag` takes as it is. Any other text is escaped."""


def tag(name, /, *content, **attributes):
    """Element of a page.

    Parameters
    ----------
    name : str
    *content
        `Html`, or anything else as its text, escaped.
    **attributes
        Values are escaped; an underscore at the end of a name (``class_``) is none of it.

    Returns
    -------
    Html

    Examples
    --------
    >>> from tvb_jaxfit.page import tag
    >>> print(tag("p", "a < b, ", tag("b", "c & d"), class_='"e"'))
    <p class="&quot;e&quot;">a &lt; b, <b>c &amp; d</b></p>
    """
    told = "".join(f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items())
    inside = "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in content)
    return Html(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{inside}</{name}>")


def table(heads, rows):
    """Table; columns of numbers, or of the texts of numbers, stand to the right: numbers with all of their digits.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequences

    Returns
    -------
    Html
    """
    rows = [[repr(cell.item()) if isinstance(cell, np.number) else cell for cell in row] for row in rows]
    classes = ["number" if all(map(_is_number, column)) else "text" for column in zip(*rows, strict=True)]
    classes = classes or ["text"] * len(heads)

    def line(name, cells):
        return tag("tr", *(tag(name, cell, class_=kind) for cell, kind in zip(cells, classes, strict=True)))

    body = tag("tbody", *(line("td", row) for row in rows))
    long = {"class_": "long"} if len(rows) > _LONG else {}
    return tag("div", tag("table", tag("thead", line("th", heads)), body, **long), class_="scroll")


def facts(told):
    """Table of what is what.

    Parameters
    ----------
    told : dict of str to str

    Returns
    -------
    Html
    """
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in told.items())
    return tag("div", tag("table", tag("tbody", *rows)), class_="scroll")


def _is_number(cell):
    """Whether a cell is empty, or begins as a number does."""
    first = str(cell).split(" ")[0]
    try:
        return not first or np.isscalar(float(first))
    except ValueError:
        return False


def figure(drawn, caption):
    """Figure that is part of the page.

    Parameters
    ----------
    drawn : matplotlib.figure.Figure
    caption : str

    Returns
    -------
    Html
    """
    import matplotlib

    for ax in drawn.axes:
        for cloud in ax.collections:
            cloud.set_rasterized(len(cloud.get_offsets()) > _CLOUD)
    file = io.BytesIO()
    # The same figure is the same text: no date, and no random names within.
    with matplotlib.rc_context({"svg.hashsalt": "tvb_jaxfit"}):
        drawn.savefig(file, format="svg", dpi=200, metadata={"Date": None}, bbox_inches="tight")
    source = f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
    return tag("figure", tag("img", src=source, alt=caption), tag("figcaption", caption))


def folded(summary, *content):
    """Content that is opened on a screen by a click, and is open on paper."""
    return tag("details", tag("summary", summary), *content)


def page(title, *content):
    """Whole page, as text."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(_STYLE)),
    )
    return "<!DOCTYPE html>\n" + tag("html", head, tag("body", tag("h1", title), *content), lang="en") + "\n"
