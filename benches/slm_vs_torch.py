"""Fine-tuning and inference of MiniLM: noisegate's `slm` crate against PyTorch.

    cargo build --release -p noisegate-slm --example bench
    python benches/slm_vs_torch.py [--rounds 3] [--threads 2] [--device cpu] [--tasks train,infer16,infer1]

Each round starts every contender once, in a process of its own, in turn; a contender's figure is the median over all
steps of all rounds. Needs `torch` and `transformers` in the Python that runs it, and `cargo xtask setup`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
FETCHED = ROOT / "target/noisegate"


def main():
    options = parse()
    table = {
        "train": ("fine-tuning", 16, {"torch fp32": "train-fp32", "torch bf16": "train-bf16"}, OUR_TRAINING),
        "infer16": ("inference", 16, {"torch fp32": "infer-fp32", "torch bf16": "infer-bf16"}, OUR_INFERENCE),
        "infer1": ("inference", 1, {"torch fp32": "infer-fp32", "torch bf16": "infer-bf16"}, OUR_INFERENCE),
    }
    for task in options.tasks.split(","):
        name, batch, theirs, ours = table[task]
        measured = {}
        for _ in range(options.rounds):
            for contender, work in theirs.items():
                command = [sys.executable, str(HERE / "slm/torch_worker.py"), str(options.model), work]
                note(measured, contender, run(command, batch, options))
            for contender, work in ours.items():
                command = [str(options.bench), str(options.library), str(options.model), work]
                note(measured, contender, run(command, batch, options))
        print(f"\n{name}, batch {batch} x {options.length}, {options.threads} threads, {options.device}")
        print(f"{'':20}{'median ms':>10}{'fastest':>10}{'peak MiB':>10}{'vs fp32':>9}{'vs bf16':>9}")
        median = {c: statistics.median(m["ms"]) for c, m in measured.items()}
        for contender, m in measured.items():
            ratios = [median[f"torch {p}"] / median[contender] for p in ("fp32", "bf16")]
            print(
                f"{contender:20}{median[contender]:10.2f}{min(m['ms']):10.2f}{max(m['peak_mib']):10.0f}"
                f"{ratios[0]:8.2f}x{ratios[1]:8.2f}x"
            )
        sys.stdout.flush()


OUR_TRAINING = {"noisegate fp32": "train-fp32", "noisegate bf16": "train-bf16"}
OUR_INFERENCE = {"noisegate fp32": "infer-fp32", "noisegate int8": "infer-int8"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", default="train,infer16,infer1")
    parser.add_argument("--model", type=pathlib.Path, default=FETCHED / "minilm")
    parser.add_argument("--library", type=pathlib.Path, default=FETCHED / "onnxruntime/libonnxruntime.so.1.32.0")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "target/release/examples/bench")
    return parser.parse_args()


def run(command, batch, options):
    # A single row takes milliseconds: more of them for a steady median.
    steps = options.steps * (10 if batch == 1 else 1)
    command += [str(batch), str(options.length), str(options.threads), str(steps), options.device]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def note(measured, contender, figures):
    into = measured.setdefault(contender, {"ms": [], "peak_mib": []})
    into["ms"] += figures["ms"]
    into["peak_mib"].append(figures["peak_mib"])


main()
