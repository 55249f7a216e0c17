"""HTML that is escaped by construction: elements, tables, and the short form of objects in notebooks."""

import html

import numpy as np

# Elements that have no content and no end.
_VOID = ("img", "meta")
# Tables of more rows than this may go on on the next sheet of paper.
_LONG = 25
# Largest number of columns beside those that name the row. Wider tables are split, so that each part fits a page.
_WIDE = 6


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
    >>> from tvb_jaxfit.markup import tag
    >>> print(tag("p", "a < b, ", tag("b", "c & d"), class_='"e"'))
    <p class="&quot;e&quot;">a &lt; b, <b>c &amp; d</b></p>
    """
    told = "".join(f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items())
    inside = "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in content)
    return Html(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{inside}</{name}>")


def table(heads, rows, keys=1):
    """Table; columns of numbers, or of the texts of numbers, stand to the right: floats with 6 significant digits.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequences
    keys : int, optional
        Number of columns at the left that name the row. They are repeated in each part of a table that is split.

    Returns
    -------
    Html
    """
    rows = [[_shown(cell) for cell in row] for row in rows]
    numbers = [all(_is_number(row[i]) for row in rows) and bool(rows) for i in range(len(heads))]
    classes = ["number" if is_number else "text" for is_number in numbers]
    starts = range(keys, max(len(heads), keys + 1), _WIDE)
    parts = [[*range(keys), *range(start, min(start + _WIDE, len(heads)))] for start in starts]
    long = {"class_": "long"} if len(rows) > _LONG else {}

    def line(name, cells, columns):
        return tag("tr", *(tag(name, cells[i], class_=classes[i]) for i in columns))

    def part(columns):
        body = tag("tbody", *(line("td", row, columns) for row in rows))
        return tag("table", tag("thead", line("th", heads, columns)), body, **long)

    return tag("div", *map(part, parts), class_="scroll")


def key_value_table(told):
    """Table of names and texts.

    Parameters
    ----------
    told : dict of str to str

    Returns
    -------
    Html
    """
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in told.items())
    return tag("div", tag("table", tag("tbody", *rows), class_="facts"), class_="scroll")


def notebook_html(title, *content):
    """HTML of an object for a notebook: a title, then paragraphs and tables.

    Parameters
    ----------
    title : str
    *content
        `Html`, or text of a paragraph, escaped.

    Returns
    -------
    str

    Examples
    --------
    >>> from tvb_jaxfit.markup import notebook_html
    >>> notebook_html("Fit of <b>", "3 steps")
    '<div><p><strong>Fit of &lt;b&gt;</strong></p><p>3 steps</p></div>'
    """
    told = (part if isinstance(part, Html) else tag("p", part) for part in content)
    return str(tag("div", tag("p", tag("strong", title)), *told))


def _shown(cell):
    """Cell of a table; numbers with as many digits as are read."""
    cell = cell.item() if isinstance(cell, np.generic) else cell
    return f"{cell:.6g}" if isinstance(cell, float) else cell


def _is_number(cell):
    """Whether a cell is empty, or begins as a number does."""
    first = str(cell).split(" ")[0]
    try:
        return not first or np.isscalar(float(first))
    except ValueError:
        return False
