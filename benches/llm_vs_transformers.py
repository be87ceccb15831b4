"""Generation on a CPU: noisegate's `llm` crate against `transformers`, and llama.cpp where it is installed.

    cargo build --release --workspace --example llm_speed
    python benches/llm_vs_transformers.py [--rounds 5] [--threads 2] [--batches 1,8,32] [--model plugins/tiny-lm]

Each round starts every contender once, in a process of its own, in turn; a contender's figure is the median of its
rounds, a ratio the median of the rounds' ratios. All generate 64 tokens greedily for the same prompts (64, `--prompts`). A text that
ends early makes room for the next one in noisegate, and counts with the tokens it has; `transformers` goes on to the
64th token, so that its batches stay full. Needs `torch`, `transformers` and, for llama.cpp, `gguf` in the Python that
runs it, and `cargo xtask setup llama-cpp`. A GGUF file as model (`cargo xtask setup smollm2`) is run by noisegate and
llama.cpp alone: by llama.cpp with its weights as they are and as f32; noisegate keeps them in about eight bits.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
THEIRS = ["transformers fp32", "transformers bf16", "llama.cpp f32", "llama.cpp"]


def main():
    options = parse()
    contenders = {"noisegate": [options.bench, options.model, "generate"]}
    for name in THEIRS:
        contenders[name] = [sys.executable, HERE / "llm/worker.py", options.model, name]
    for batch in map(int, options.batches.split(",")):
        measured, skipped = {}, {}
        for _ in range(options.rounds):
            for name, command in contenders.items():
                if name in skipped:
                    continue
                figures = run([*command, str(batch), str(options.prompts)], options.threads)
                if "skipped" in figures:
                    skipped[name] = figures["skipped"]
                else:
                    measured.setdefault(name, []).append(figures["tokens_per_second"])
        print(f"\ngeneration, batch {batch}, {options.threads} threads, {options.rounds} rounds")
        print(f"{'':20}{'tokens/s':>10}{'slowest':>10}{'fastest':>10}{'noisegate is':>14}")
        for name, rates in measured.items():
            ratio = statistics.median(ours / rate for ours, rate in zip(measured["noisegate"], rates))
            print(f"{name:20}{statistics.median(rates):10.0f}{min(rates):10.0f}{max(rates):10.0f}{ratio:13.2f}x")
        for name, reason in skipped.items():
            print(f"{name:20} not measured: {reason}")
        sys.stdout.flush()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "plugins/tiny-lm")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "target/release/examples/llm_speed")
    return parser.parse_args()


def run(command, threads):
    """Runs a contender on as many cores as it may have threads; noisegate counts cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    paths = [str(ROOT / "target/noisegate/llama-cpp"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


main()
