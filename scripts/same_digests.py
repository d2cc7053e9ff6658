"""Do two commits learn the same? Runs recipes in-process at both and compares the adapters' digests.

    python scripts/same_digests.py OLD [NEW] [--recipes default gossip ...] [--json FILE] [--override KEY=VALUE ...]

Each commit is checked out into a worktree of its own; the running interpreter's packages serve both. Ends with status 1
where a digest differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("default", "gossip", "async_gossip", "selfplay", "fedavg", "sync_centralized")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", default="HEAD", help="another one (default: HEAD)")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, metavar="NAME")
    parser.add_argument("--override", nargs="*", default=["rounds=3"], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    outcome: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="symphony-digests-") as folder:
        trees = {commit: _worktree(commit, Path(folder)) for commit in (options.old, options.new)}
        try:
            for recipe in options.recipes:
                digests = {
                    commit: _digests(tree, recipe, options.override, Path(folder))
                    for commit, tree in trees.items()
                }
                same = digests[options.old] == digests[options.new]
                outcome[recipe] = {"same": same, **digests}
                print(f"{recipe:20} {'same' if same else 'DIFFERENT'} {digests}", flush=True)
        finally:
            for tree in trees.values():
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2))
    return 0 if all(found["same"] for found in outcome.values()) else 1


def _worktree(commit: str, folder: Path) -> Path:
    name = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    tree = folder / f"{len(list(folder.iterdir()))}-{name[:12]}"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), name], cwd=ROOT, check=True)
    return tree


def _digests(tree: Path, recipe: str, overrides: list[str], folder: Path) -> dict[str, str]:
    """Agent -> digest of its last adapter."""
    entry = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["scripts"]["symphony"]
    module, _, function = entry.partition(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    home = Path(tempfile.mkdtemp(dir=folder))
    output = home / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", recipe, *overrides, "--in-process", "--json", str(output)],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "SYMPHONY_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {recipe}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    found = json.loads(output.read_text())
    result = found if "adapter_digests" in found else found["result"]
    return dict(result["adapter_digests"])


if __name__ == "__main__":
    sys.exit(main())
