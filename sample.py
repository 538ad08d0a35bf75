"""Point clouds in, artist meshes out: `python sample.py --cond chair.ply` is `meshgpt sample --cond chair.ply`."""

import sys

from meshgpt.cli import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
