"""An earlier trale_py, checked out and built beside the one that is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from programs import BUILD, HERE


def checkout(revision: str) -> Path:
    """A checkout of ``revision``, with the package installed into its folder ``installed``."""
    commit = _run("git", "rev-parse", "--verify", f"{revision}^{{commit}}", at=HERE).strip()
    path = BUILD / f"checkout-{commit[:12]}"
    if not (path / "installed").exists():
        path.mkdir(parents=True, exist_ok=True)
        archive = path / "archive.tar"
        _run("git", "archive", f"--output={archive}", commit, at=HERE.parent)
        _run("tar", "xf", str(archive), at=path)
        fresh = path / "installed.part"  # so that one that was cut off is not taken for whole
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run(*pip, "install", "--no-deps", "--upgrade", f"--target={fresh}", str(path), at=path)
        fresh.rename(path / "installed")
    return path


def _run(*command: str, at: Path) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
