"""What a start does not load: `gemmapy serve` answers before everything is there that only some requests need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LATER = {
    "alembic": "upgrades",
    "fastapi": "what api/later.py builds",
    "gemmapy.cli.doctor": "another command",
    "gemmapy.demo": "another command",
    "gemmapy.processes": "several processes",
    "genai_prices": "the catalogue of hosted models",
    "mako": "upgrades",
    "numpy": "vectors",
    "pypdf": "documents",
    "rich": "help",
    "sqlalchemy.orm": "nothing",
    "starlette.requests": "what api/later.py builds",
    "usearch": "vectors",
    "xllamacpp": "the embedded model's process",
}
"""And what it is for."""
START = """
import functools, json, os, signal, sys
from gemmapy.cli.main import main
from gemmapy import serving

def ready(port):
    print(json.dumps([*sys.modules]), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

serving.serve = functools.partial(serving.serve, on_ready=ready)
main()
"""


def test_a_start_loads_only_what_it_needs(tmp_path: Path) -> None:
    asked = ["serve", "--port", "0", "--data", str(tmp_path / "data"), "--upstream", "ollama=http://127.0.0.1:9"]
    command = [sys.executable, "-c", START, *asked]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    loaded = json.loads(ran.stdout.splitlines()[-1])
    assert "gemmapy.gateway.handle" in loaded
    assert {name: purpose for name, purpose in LATER.items() if name in loaded} == {}
