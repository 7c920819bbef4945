"""Let ``python -m llara_core.cli`` stand for ``llara``."""

from llara_core.cli import main

main()
