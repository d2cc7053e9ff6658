"""The page: every section and plot is there, it is whole HTML, and it needs nothing from anywhere else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from symphony_fl.config.recipe import RecipeError
from symphony_fl.experiment import report
from symphony_fl.experiment.paradigms import Planned
from symphony_fl.experiment.rows import Row
from symphony_fl.experiment.tables import all_tables

VOID = {"meta", "link", "br", "hr", "img", "input"}
ASKED = {"command": "symphony experiment paper", "quick": "", "ways": "in-process"}
MACHINE = {"date": "2026-01-01 00:00 UTC", "commit": "abc", "processor": "<unknown> & slow"}
SECTIONS = (
    "6.1 Agent Configuration",
    "6.2 Centralized vs Decentralized Training Paradigms",
    "6.3 Efficient Weight Synchronization with SPARTA",
    "6.4 Key Evaluation Metrics",
    "Task Accuracy and Generalization",
    "Skill Specialization",
    "Parameter Similarity",
    "Interaction Success",
    "Bandwidth Efficiency",
    "Stability",
    "Time to accuracy",
    "Agent-level traces",
)


class Page(HTMLParser):
    """Checks that tags are nested and ids are unique; keeps headings, ids and everything that could be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
        assert tag not in ("script", "link", "iframe", "object"), tag
        assert "onclick" not in values
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def html(rows: list[Row], planned: list[Planned]) -> str:
    return report.render(rows, {item.paradigm: item.recipe for item in planned}, ASKED, MACHINE)


def test_every_section_table_and_plot_is_there(html: str, rows: list[Row]) -> None:
    page = Page(html)
    places = [page.headings.index(section) for section in SECTIONS]
    assert places == sorted(places)
    for table in all_tables(rows).values():
        assert f"<caption>{table.title}</caption>" in html
    for name in report.PLOTS:
        assert f'id="figure-{name}"' in html
    assert html.count("<svg") == len(report.PLOTS) == html.count('role="img"')
    assert "A quick run" not in html


def test_nothing_is_fetched_and_ids_are_unique(html: str) -> None:
    page = Page(html)
    links = [link for link in page.links if not link.startswith("data:image/png;base64,")]  # the heat maps
    assert links and all(link.startswith("#") for link in links), "external links"
    assert "http:" not in html and "https:" not in html and "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    targets = {link[1:] for link in links} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert targets <= set(page.ids), "a reference into nowhere"


def test_text_is_escaped_and_plots_take_the_pages_colour(html: str) -> None:
    assert "&lt;unknown&gt; &amp; slow" in html
    assert "currentColor" in html and "#010203" not in html


def test_the_same_rows_give_the_same_page(html: str, rows: list[Row], planned: list[Planned]) -> None:
    recipes = {item.paradigm: item.recipe for item in planned}
    assert html == report.render(list(reversed(rows)), recipes, ASKED, MACHINE)


def test_one_paradigm_alone_has_a_page_and_a_quick_run_says_so(
    rows: list[Row], planned: list[Planned]
) -> None:
    recipes = {item.paradigm: item.recipe for item in planned if item.paradigm == "sync_centralized"}
    some = [row for row in rows if row["paradigm"] == "sync_centralized"]
    text = report.render(some, recipes, ASKED | {"quick": "yes"}, MACHINE)
    Page(text)
    assert "A quick run" in text and "has two agents that train" in text


def test_page_tables_and_rows_are_written(
    tmp_path: Path, planned: list[Planned], runs: dict[tuple[str, int], Path]
) -> None:
    written = report.write(tmp_path, ASKED, planned, lambda item: runs[item.paradigm, item.seed])
    assert {file.name for file in written.files} == {"report.html", "tables.md", "rows.json"}
    Page(written.page.read_text())
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == len(planned)
    text = (tmp_path / "tables.md").read_text()
    assert all(table.markdown() in text for table in written.tables.values())


def test_the_readmes_tables_are_replaced_and_nothing_else(tmp_path: Path, rows: list[Row]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.into_readme(readme, all_tables(rows), "At commit abc.")
        text = readme.read_text()
        assert text.startswith(f"before\n{report.BEGIN}\n") and text.endswith(f"{report.END}\nafter\n")
        assert (
            "At commit abc." in text
            and "old" not in text
            and text.count("Accuracy of the training paradigms") == 1
        )


@pytest.mark.parametrize(
    "text", ["", report.BEGIN, f"{report.END}\n{report.BEGIN}", f"{report.BEGIN}{report.END}" * 2]
)
def test_a_readme_without_both_marks_is_refused(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(RecipeError, match="must hold the lines"):
        report.check_marks(readme)
    with pytest.raises(RecipeError, match="cannot be read"):
        report.check_marks(tmp_path / "none.md")
