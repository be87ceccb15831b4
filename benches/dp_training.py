"""Units per second of differentially private training: behind noisegate's gate, with Opacus, and
without privacy.

    python benches/dp_training.py [--layers 5] [--threads 2] [--rounds 3]

One step of full fine-tuning of a Llama-shaped decoder (hidden 256, inner 768, 8 heads, 4,096
tokens; 5.3 M parameters with 5 layers) on a batch of 64 units, each of 64 tokens that predict
64 more. The ways take turns, round after round, on the same machine; medians are printed, and
how many times as fast noisegate is. What a step is, for each:

    plain       PyTorch: one gradient of the batch and plain SGD, no privacy
    per-sample  Opacus: a gradient for each unit, clipped, noise, SGD
    ghost       Opacus, ghost clipping: two backward passes, noise, SGD
    noisegate   `examples/training_speed`: weights told to the workers, a fresh WebAssembly
                instance for each unit in jailed workers, clipped and summed in integers,
                noise, SGD in the public side's instance

PyTorch's matrices are f32, as noisegate's are. Its output layer is tied to the embedding in
`plain`, as in noisegate. Opacus refuses tied weights, so its two ways train the output layer
as 1.05 M parameters of their own; the products are the same.

Needs torch and opacus, and the built example:

    cargo build --release --workspace --example training_speed
"""

import argparse
import re
import statistics
import subprocess
import time
import warnings
from pathlib import Path

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
HIDDEN, INNER, HEADS, VOCABULARY, UNITS, TOKENS = 256, 768, 8, 4096, 64, 64


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.before_attention, self.before_mlp = nn.RMSNorm(HIDDEN), nn.RMSNorm(HIDDEN)
        self.q, self.k, self.v, self.o = (linear(HIDDEN, HIDDEN) for _ in range(4))
        self.gate, self.up, self.down = linear(HIDDEN, INNER), linear(HIDDEN, INNER), linear(INNER, HIDDEN)

    def forward(self, x, cos, sin):
        batch, tokens, _ = x.shape
        heads = lambda t: t.view(batch, tokens, HEADS, -1).transpose(1, 2)
        turn = lambda t: t * cos + torch.cat((-t[..., t.shape[-1] // 2 :], t[..., : t.shape[-1] // 2]), -1) * sin
        h = self.before_attention(x)
        q, k, v = turn(heads(self.q(h))), turn(heads(self.k(h))), heads(self.v(h))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(batch, tokens, HIDDEN))
        h = self.before_mlp(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, layers, tied=True):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.RMSNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        angles = torch.outer(torch.arange(TOKENS), 1e4 ** -(torch.arange(0, HIDDEN // HEADS, 2) / (HIDDEN // HEADS)))
        self.angles = torch.cat((angles, angles), -1)

    def forward(self, tokens):
        x, cos, sin = self.embed(tokens), self.angles.cos(), self.angles.sin()
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))


def loss_of(model, tokens):
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def plain(layers):
    model = Decoder(layers)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(tokens):
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, tokens).backward()
        optimizer.step()

    return step


def per_sample(layers):
    model = GradSampleModule(Decoder(layers, tied=False), strict=False)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), 0.1), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=UNITS
    )

    def step(tokens):
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, tokens).backward()
        optimizer.step()

    return step


def ghost(layers):
    model = GradSampleModuleFastGradientClipping(
        Decoder(layers, tied=False), max_grad_norm=1.0, use_ghost_clipping=True, strict=False
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), 0.1), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=UNITS
    )
    criterion = DPLossFastGradientClipping(model, optimizer, nn.CrossEntropyLoss())

    def step(tokens):
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens[:, :-1].contiguous())
        criterion(logits.flatten(0, 1), tokens[:, 1:].flatten(), shape=(UNITS, TOKENS)).backward()
        optimizer.step()

    return step


def seconds(step, tokens):
    step(tokens)
    started = time.perf_counter()
    for _ in range(2):
        step(tokens)
    return (time.perf_counter() - started) / 2


def noisegate(layers, threads):
    example = ROOT / "target/release/examples/training_speed"
    same = ["train=full", "optimiser=sgd", "label_vectors=false", "label_bias=false"]
    sequence = ["template={text}", f"max_tokens={TOKENS + 1}"]
    command = [example, str(threads), f"base_layers={layers}", *same, *sequence]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # The first query also tells the workers the base model; the last ends with a drawn token.
    times = re.findall(r"([\d.]+) ms, then Query", printed)[2:]
    return statistics.median(map(float, times)) / 1e3, int(re.search(r"dim (\d+)", printed)[1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 5), ("threads", 2), ("rounds", 3)):
        arguments.add_argument(f"--{name}", type=int, default=default)
    options = arguments.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    tokens = torch.randint(0, VOCABULARY, (UNITS, TOKENS + 1))
    parameters = sum(p.numel() for p in Decoder(options.layers).parameters())
    print(f"{parameters:,} parameters, {UNITS} units of {TOKENS} tokens, {options.threads} threads")

    def behind_the_gate():
        spent, trained = noisegate(options.layers, options.threads)
        assert trained == parameters, f"noisegate trains {trained:,} parameters"
        return spent

    ways = {
        "plain": lambda: seconds(plain(options.layers), tokens),
        "per-sample": lambda: seconds(per_sample(options.layers), tokens),
        "ghost": lambda: seconds(ghost(options.layers), tokens),
        "noisegate": behind_the_gate,
    }
    spent = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            spent[name].append(way())
    median = {name: statistics.median(times) for name, times in spent.items()}
    for name, time_spent in median.items():
        ratio = time_spent / median["noisegate"]
        print(f"{name:12} {UNITS / time_spent:8.1f} units/s {time_spent * 1e3:8.0f} ms a step {ratio:8.2f}")


if __name__ == "__main__":
    main()
