"""HTML from templates: `templates/page.html` is the frame of every page, `table.html` the form of every table.

A page is one file that needs no network. What a template is given is escaped, unless it says `| safe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: Mapping[str, Any], folder: Path | None = None) -> str:
    """The template filled in.

    Parameters
    ----------
    template : file name
    values : by the names that the template uses; a name that is missing is an error
    folder : where the template is, if it is not one of `templates/`; it may extend those
    """
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, *([folder] if folder else [])]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
