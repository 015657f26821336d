"""The command line, as ``python -m cl_engine`` runs it."""

from cl_engine.cli import main

if __name__ == "__main__":
    main(prog_name="python -m cl_engine")
