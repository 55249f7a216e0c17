"""Pages of a report: one HTML file without requests, for screens, phones and A4 paper, in light and dark mode."""

import base64
import io
from collections.abc import Callable

from ..markup import Html, tag

# Scatter plots with more points than this are rasterised: as vector paths they make a page slow.
_MAX_VECTOR_POINTS = 500
# Number of panels side by side, for figures with many panels.
_N_COLUMNS = 3
# Element that identifies a report, so that no other page is replaced by one.
GENERATOR = tag("meta", name="generator", content="tvb_jaxfit")
_STYLE = """
:root { color-scheme: light dark; --page: light-dark(#fff, #17191b); --ink: light-dark(#1a1a1a, #e2e2e2);
        --quiet: light-dark(#555, #a5a5a5); --line: light-dark(#c8c8c8, #4a4a4a); --row: light-dark(#e2e2e2, #343434);
        --box: light-dark(#f5f5f5, #222527); --shade: light-dark(rgb(0 0 0 / .25), rgb(255 255 255 / .3)); }
body { max-width: 62rem; margin: 2rem auto; padding: 0 clamp(.8rem, 4vw, 1.5rem);
       background: var(--page); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
       overflow-wrap: break-word; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
p { margin: .5rem 0; }
.quiet { color: var(--quiet); }
.headline { margin: 1.2rem 0; padding: .6rem 1rem; border-left: .3rem solid var(--line); background: var(--box); }
.headline strong { font-size: 1.5rem; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff; }
figcaption { margin-top: .3rem; color: var(--quiet); font-size: .875rem; }
.scroll { overflow-x: auto; background: linear-gradient(to right, var(--page) 1rem, transparent 2rem) 0 / 2rem 100%,
          linear-gradient(to left, var(--page) 1rem, transparent 2rem) 100% / 2rem 100%,
          linear-gradient(to right, var(--shade), transparent) 0 / .8rem 100%,
          linear-gradient(to left, var(--shade), transparent) 100% / .8rem 100%;
          background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .875rem; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--row); }
th { border-bottom-color: var(--quiet); }
th[scope] { border-bottom-color: var(--row); font-weight: normal; color: var(--quiet); }
td { white-space: pre-wrap; }
.facts td { overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; vertical-align: bottom; min-width: 5.7em; overflow-wrap: anywhere; }
.text { min-width: 3.6em; }
.text:first-child { min-width: 7em; overflow-wrap: anywhere; }
pre { padding: .7rem; background: var(--box); font-size: .8rem; line-height: 1.4; white-space: pre-wrap;
      overflow-wrap: anywhere; }
pre.columns { white-space: pre; overflow-x: auto; }
summary { cursor: pointer; }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; margin: 0; padding: 0; font-size: 10.5pt; }
  h2, h3, h2 + p, summary { break-after: avoid; }
  figure, tr, table:not(.long) { break-inside: avoid; }
  figure img { max-height: 95mm; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 8.5pt; }
  th, td { padding-right: .5rem; overflow-wrap: anywhere; }
  pre, pre.columns { background: none; border: 1px solid #c8c8c8; font-size: 7pt; white-space: pre-wrap; }
  .headline { background: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


def figure_html(figure, caption: str) -> Html:
    """Figure embedded in the page as SVG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    caption : str

    Returns
    -------
    Html
    """
    import matplotlib

    for ax in figure.axes:
        for cloud in ax.collections:
            cloud.set_rasterized(len(cloud.get_offsets()) > _MAX_VECTOR_POINTS)
    file = io.BytesIO()
    # Reproducible output: no date, and no random identifiers.
    with matplotlib.rc_context({"svg.hashsalt": "tvb_jaxfit"}):
        figure.savefig(file, format="svg", dpi=200, metadata={"Date": None}, bbox_inches="tight")
    source = f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
    return tag("figure", tag("img", src=source, alt=caption), tag("figcaption", caption))


def panels_html(n: int, size: tuple[float, float], draw: Callable, caption: str, n_columns: int | None = None) -> Html:
    """Figure of several panels, embedded in the page.

    Parameters
    ----------
    n : int
        Number of panels.
    size : (float, float)
        Width and height of each [inch].
    draw : callable
        Draws into their axes.
    caption : str
    n_columns : int, optional
        Number of panels side by side. Default: all of up to 4 panels, or 3.

    Returns
    -------
    Html
    """
    # A Figure without pyplot, which would keep the figure and may need a display.
    from matplotlib.figure import Figure

    n_columns = (n if n <= _N_COLUMNS + 1 else _N_COLUMNS) if n_columns is None else min(n, n_columns)
    n_rows = -(-n // n_columns)
    figure = Figure(figsize=(n_columns * size[0], n_rows * size[1]), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.remove()
    draw(axes[:n])
    return figure_html(figure, caption)


def collapsible(summary: str, *content) -> Html:
    """Content that a click opens on a screen, and that is always open on paper."""
    return tag("details", tag("summary", summary), *content)


def page(title: str, *content) -> str:
    """Complete HTML page as text."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        GENERATOR,
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(_STYLE)),
    )
    return "<!DOCTYPE html>\n" + tag("html", head, tag("body", tag("h1", title), *content), lang="en") + "\n"
