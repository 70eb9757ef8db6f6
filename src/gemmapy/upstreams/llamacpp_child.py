"""The child process of `llamacpp.py`: serves one model on a free port of 127.0.0.1 until its input ends.

Its orders come as one line of JSON on standard input, its one answer goes to standard output:
`{"port": 40123, "load_ms": 890}`. Runs by itself and imports nothing of GemmaPy.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

NICENESS = 5
ERRORS_ONLY = 1


def main() -> None:
    """Loads, says so, and waits for the end of the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)  # the gateway goes first: it has a little to do, and everybody waits for it
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native code prints must not be taken for the answer
    orders: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    began = time.monotonic()
    try:
        server = _serve(orders)
    except Exception as error:  # noqa: BLE001 - whatever it is, its one line is what the operator reads
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)  # the thread that reads the input would keep the interpreter from ending in order
    port = urlsplit(str(server.listening_address)).port
    answer.write(json.dumps({"port": port, "load_ms": round((time.monotonic() - began) * 1000)}) + "\n")
    answer.flush()
    threading.Event().wait()


def _end_with_input() -> None:
    """The input ends when the gateway does, even if it was killed. Ends at once, in the middle of whatever is done."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def _serve(orders: dict[str, Any]) -> Any:
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params: Any = xllamacpp.CommonParams()
    params.model.path = orders["model_path"]
    params.model_alias = {orders["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [orders["api_key"]]
    params.n_parallel = orders["parallel"]
    params.n_ctx = orders["context_per_slot"] * orders["parallel"]  # llama.cpp divides it among the slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = orders["threads"]
    params.cache_ram_mib = orders["cache_ram_mib"]
    params.use_jinja = True
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.ui = False
    params.verbosity = ERRORS_ONLY
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
