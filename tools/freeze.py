"""Print every installed version as a constraint, so that another machine installs the same.

Local build tags are dropped (``2.13.0+cpu`` becomes ``2.13.0``): which build fits is the machine's matter.
Lines that constraints.txt has for an older Python, and for the CUDA libraries of torch's builds for GPUs,
are kept, since this environment cannot know them.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

HEADER = """\
# Every version that this project is tested with; written by `make constraints`.
# pip install -c constraints.txt -e '.[cpu,data,s3,pipeline,kubernetes,figures,serve,onnx,dev]'
"""
OLDER = '; python_version < "3.11"'
NEWER = '; python_version >= "3.11"'
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
# What torch's CUDA builds and the extra `gpu` bring along; an environment without a GPU has none of them.
CUDA = ("nvidia-", "cuda-", "triton==", "faiss-gpu==", "liger-kernel==", "bitsandbytes==")
# The project itself, and what the environment brings along.
LEFT_OUT = {"llara", "pip", "setuptools", "wheel"}


def main() -> int:
    """Write the constraints to standard output."""
    kept = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    older = [line for line in kept if line.endswith(OLDER)]
    cuda = [line for line in kept if line.startswith(CUDA)]
    forked = {line.split("==")[0] for line in older}
    versions = {
        re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): one.version.split("+")[0]
        for one in distributions()
    }
    current = [
        f"{name}=={version}{NEWER if name in forked else ''}"
        for name, version in versions.items()
        if name not in LEFT_OUT and not f"{name}==".startswith(CUDA)
    ]
    sys.stdout.write(HEADER + "\n".join(sorted([*current, *older, *cuda])) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
