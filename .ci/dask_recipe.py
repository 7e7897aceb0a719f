"""Run README's program for Dask against a gateway on the loopback: python .ci/dask_recipe.py FILE"""

import os
import pathlib
import subprocess
import sys

TOP = str(pathlib.Path(__file__).resolve().parent.parent)
sys.path.insert(0, TOP)
from test_edgee import COMPLETION, Gateway, sized  # noqa: E402

with Gateway(sized(COMPLETION)) as gateway:
    settings = {"EDGEE_API_KEY": "key", "EDGEE_BASE_URL": gateway.url, "NO_PROXY": "127.0.0.1", "PYTHONPATH": TOP}
    command = [sys.executable, sys.argv[1]]
    printed = subprocess.check_output(command, env={**os.environ, **settings}, timeout=120).decode()
print(printed, f"{len(gateway.requests)} requests")
if not gateway.requests or "Hello" not in printed:
    sys.exit("no answer came")
