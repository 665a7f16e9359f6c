"""``python -m trale_py``: a prompt with top-level ``await``."""

from __future__ import annotations

import sys

from .scripts.prompt import run

if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("usage: python -m trale_py    (a prompt with top-level await)")
    run()
