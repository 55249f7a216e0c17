"""HTML that is escaped by construction: elements, tables, and the notebook representation of objects."""

import html
from collections.abc import Iterable, Sequence

import numpy as np

# Elements without content and without an end tag.
_VOID = ("img", "meta")
# Tables with more rows than this may be split over pages of paper.
_LONG = 25
# Maximum number of columns beside those that name the row. Wider tables are split, so that each part fits a page.
_MAX_COLUMNS = 6


class Html(str):
    """Finished markup, which `tag` inserts unchanged. Any other text is escaped."""


def tag(name: str, /, *content, **attributes) -> Html:
    """HTML element.

    Parameters
    ----------
    name : str
    *content
        `Html`, or other objects, whose text is escaped.
    **attributes
        Values are escaped; underscores at the end of a name (``class_``) are removed.

    Returns
    -------
    Html

    Examples
    --------
    >>> from tvb_jaxfit.markup import tag
    >>> print(tag("p", "a < b, ", tag("b", "c & d"), class_='"e"'))
    <p class="&quot;e&quot;">a &lt; b, <b>c &amp; d</b></p>
    """
    pairs = "".join(f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items())
    inside = "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in content)
    return Html(f"<{name}{pairs}>" if name in _VOID else f"<{name}{pairs}>{inside}</{name}>")


def table(heads: Sequence[str], rows: Iterable[Sequence], keys: int = 1) -> Html:
    """Table. Columns of numbers are right-aligned; floats have 6 significant digits.

    Parameters
    ----------
    heads : sequence of str
        Column headings.
    rows : iterable of sequences
    keys : int, optional
        Number of columns at the left that name the row; they are repeated in each part of a table that is split.

    Returns
    -------
    Html
    """
    rows = [[_cell(value) for value in row] for row in rows]
    numbers = [all(_is_number(row[i]) for row in rows) and bool(rows) for i in range(len(heads))]
    classes = ["number" if is_number else "text" for is_number in numbers]
    starts = range(keys, max(len(heads), keys + 1), _MAX_COLUMNS)
    parts = [[*range(keys), *range(start, min(start + _MAX_COLUMNS, len(heads)))] for start in starts]
    long = {"class_": "long"} if len(rows) > _LONG else {}

    def line(name, cells, columns):
        return tag("tr", *(tag(name, cells[i], class_=classes[i]) for i in columns))

    def part(columns):
        body = tag("tbody", *(line("td", row, columns) for row in rows))
        return tag("table", tag("thead", line("th", heads, columns)), body, **long)

    return tag("div", *map(part, parts), class_="scroll")


def key_value_table(items: dict[str, str]) -> Html:
    """Table of names and values.

    Parameters
    ----------
    items : dict of str to str

    Returns
    -------
    Html
    """
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in items.items())
    return tag("div", tag("table", tag("tbody", *rows), class_="facts"), class_="scroll")


def notebook_html(title: str, *content) -> str:
    """HTML representation of an object for a notebook: a title, then paragraphs and tables.

    Parameters
    ----------
    title : str
    *content
        `Html`, or the text of a paragraph, which is escaped.

    Returns
    -------
    str

    Examples
    --------
    >>> from tvb_jaxfit.markup import notebook_html
    >>> notebook_html("Fit of <b>", "3 steps")
    '<div><p><strong>Fit of &lt;b&gt;</strong></p><p>3 steps</p></div>'
    """
    parts = (part if isinstance(part, Html) else tag("p", part) for part in content)
    return str(tag("div", tag("p", tag("strong", title)), *parts))


def _cell(value):
    """Content of a table cell; floats with 6 significant digits."""
    value = value.item() if isinstance(value, np.generic) else value
    return f"{value:.6g}" if isinstance(value, float) else value


def _is_number(cell):
    """True if a cell is empty, or begins with a number, which may be in parentheses."""
    first = str(cell).split(" ")[0].strip("()")
    try:
        return not first or np.isscalar(float(first))
    except ValueError:
        return False
