"""Write the generated pages of the documentation: docs/options.md and docs/reference/. `make docs` runs this first.

    python scripts/write_docs.py

The options come from `symphony options --markdown`, so the page cannot differ from what a recipe accepts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PACKAGES = (
    "symphony_fl.config",
    "symphony_fl.exchange",
    "symphony_fl.learning",
    "symphony_fl.identity",
    "symphony_fl.build",
    "symphony_fl.metrics",
    "symphony_fl.simulation",
    "symphony_fl.tracking",
    "strategies",
    "clients",
)
"""What the API reference covers, one page each; `mkdocs.yml` lists the same pages."""
GENERATED = "<!-- Written by scripts/write_docs.py; do not edit. -->\n\n"


def main() -> None:
    """Write all pages; exits with an error if the options cannot be had."""
    (DOCS / "options.md").write_text(GENERATED + options_page(), encoding="utf-8")
    for package in PACKAGES:
        page = DOCS / "reference" / f"{package.rpartition('.')[2]}.md"
        page.write_text(f"{GENERATED}# {package}\n\n::: {package}\n", encoding="utf-8")


def options_page() -> str:
    """Every option of a recipe, as the `symphony` command prints them."""
    command = [sys.executable, "-m", "symphony_fl.cli.main", "options", "--markdown"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    text = done.stdout.strip() + "\n"
    return text if text.startswith("# ") else f"# Options\n\n{text}"


if __name__ == "__main__":
    main()
