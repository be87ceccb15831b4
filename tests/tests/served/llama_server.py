"""llama.cpp's own HTTP server on a free port of this machine, with a GGUF file.

    PYTHONPATH=target/noisegate/llama-cpp python3 tests/tests/served/llama_server.py MODEL.gguf

Prints its address, and ends with its standard input.
"""

import sys

import xllamacpp

SLOTS, CONTEXT = 4, 1024

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
params.hostnames, params.port = ["127.0.0.1"], 0
params.warmup = False
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
