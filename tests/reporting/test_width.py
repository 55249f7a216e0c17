"""No part of a report is cut off on a screen, a phone or paper, and the page makes no requests."""

import html.parser
import json
import shutil
import subprocess

import pytest

from tests.uncertainty.conftest import errors_of
from tvb_jaxfit.reporting import report as reports

# Widths [CSS pixels]: a screen, a phone, and A4 within the margins of the print rules (182 mm).
WIDTHS = {"screen": 1280, "phone": 390, "paper": 688}
# Script that reports the width of the page, the elements that are cut off at its right edge, and requests.
PROBE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach(each => each.open = true);
  const page = document.documentElement, paper = matchMedia("print").matches || PAPER;
  const boxes = e => { const box = e.closest(".scroll, pre.columns");
    return box && box !== e && getComputedStyle(box).overflowX === "auto" ? box : null; };
  const out = [...document.body.querySelectorAll("*")].filter(e => e.getClientRects().length)
    .filter(e => !boxes(e) && e.getBoundingClientRect().right > page.clientWidth + 0.5)
    .map(e => e.tagName + " " + e.className + " " + e.textContent.slice(0, 30));
  const scrolled = [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1).length;
  const asked = performance.getEntriesByType("resource").map(e => e.name.slice(0, 5));
  parent.postMessage(["NAME", page.clientWidth, page.scrollWidth, out, scrolled, asked,
    document.querySelectorAll("table").length], "*");
});</script></body>"""
COLLECT = """<body><script>const seen = [];
addEventListener("message", e => { seen.push(e.data); document.body.setAttribute("data-seen", JSON.stringify(seen)); });
</script>"""


class Seen(html.parser.HTMLParser):
    """Parser of the messages that the collecting page received."""

    def handle_starttag(self, name, attributes):
        if name == "body":
            self.messages = json.loads(dict(attributes)["data-seen"])


def measured(pages, folder):
    """Measures of pages {name: (text, width)} by name; one browser opens all pages."""
    frames = COLLECT
    for name, (text, width) in pages.items():
        probe = PROBE.replace("NAME", name).replace("PAPER", "true" if name == "paper" else "false")
        (folder / f"{name}.html").write_text(text.replace("</body>", probe), encoding="utf-8")
        frames += f'<iframe src="{name}.html" style="border: 0; width: {width}px; height: 3000px"></iframe>'
    (folder / "all.html").write_text(frames, encoding="utf-8")
    flags = (
        "--headless --hide-scrollbars --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --virtual-time-budget=5000 "
        "--window-size=1400,1200 --dump-dom"
    )
    command = ["chromium", *flags.split(), f"--user-data-dir={folder / 'profile'}", (folder / "all.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = Seen()
    seen.feed(done.stdout)
    return {name: measures for name, *measures in seen.messages}


def on_paper(text):
    """Page whose print rules apply to the screen."""
    assert text.count("@media print {") == 1
    return text.replace("@media print {", "@media all {")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_nothing_is_cut_on_a_screen_on_a_phone_and_on_paper(fit_summary, tmp_path):
    values = {each.path: each.fitted for each in fit_summary.parameters}
    errors = errors_of(values, values, values, n_regions=30)
    text = reports.report_html(fit_summary.with_standard_errors(errors))
    pages = {"screen": (text, WIDTHS["screen"]), "phone": (text, WIDTHS["phone"])}
    pages["paper"] = on_paper(text), WIDTHS["paper"]
    # Negative control: tables in boxes that do not scroll.
    pages["cut"] = text.replace(".scroll { overflow-x: auto;", ".scroll {"), WIDTHS["phone"]
    found = measured(pages, tmp_path)
    for name, width in WIDTHS.items():
        inside, wide, out, scrolled, asked, n_table = found[name]
        assert (inside, wide, out) == (width, width, []), name
        assert n_table > 10 and set(asked) <= {"data:"}
        assert scrolled == 0 or name == "phone", name
    _, wide, out, *_ = found["cut"]
    assert wide > WIDTHS["phone"] and out
