"""The ``llara`` command: every stage on the same settings, without ZenML."""


def main() -> None:
    """Run the command line; exits 0 when all went well, 1 on failure, 2 on wrong usage or bad input."""
    import sys

    try:
        from llara_core.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were still being loaded
        sys.stderr.write("llara: interrupted\n")
        code = 1
    sys.exit(code)
