#!/usr/bin/env python3
from cl_engine.cli import main

if __name__ == "__main__":
    main()
