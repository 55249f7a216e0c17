"""Paths of a report that are no HTML file, or cannot be written, are refused before any work."""

import os

import pytest

from tvb_jaxfit.fitting.result import FitResult
from tvb_jaxfit.reporting import report as reports


@pytest.fixture
def result():
    """Empty result: a path is refused before the result is read."""
    return FitResult(*[None] * 8)


@pytest.mark.parametrize(
    "name,message",
    [
        ("x.pdf", r"x\.pdf ends in \.pdf; a report is an HTML page. Give .*x\.html and print from a browser"),
        ("x.PDF", r"x\.html and print from a browser"),
        ("x.md", r"x\.md ends in \.md; a report is an HTML page. Give .*x\.html\."),
        ("report", r"report ends in nothing; a report is an HTML page. Give .*report\.html\."),
        ("", r"is a folder. Name a file in it: .*report\.html"),
        ("file/report.html", r"file is a file, and no folder for .*report\.html"),
    ],
)
def test_other_paths_are_refused_with_a_suitable_one(result, tmp_path, name, message):
    (tmp_path / "file").write_text("mine")
    for force in (False, True):
        for write in (lambda path, force=force: result.report(path, force=force), reports_of(force)):
            with pytest.raises(ValueError, match=message):
                write(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


def reports_of(force):
    """Writer of a report without a summary."""
    return lambda path: reports.write_report(path, None, force)


def test_options_of_another_kind_are_refused_all_at_once(result):
    with pytest.raises(ValueError, match=r"report: path = 5; give a path\. certificate = 'yes'; .* force = 1; give"):
        result.report(5, certificate="yes", force=1)


@pytest.mark.parametrize("name", ["report.html", "report.HTM", "new/folder/report.html"])
def test_a_folder_that_is_missing_is_made(tmp_path, monkeypatch, name):
    monkeypatch.setattr(reports, "report_html", lambda summary: "page")
    assert reports.write_report(tmp_path / name, None).read_text() == "page"
