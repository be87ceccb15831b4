"""One contender of `slm_vs_torch.py`: PyTorch, in a process of its own.

    python torch_worker.py FOLDER TASK BATCH LENGTH THREADS STEPS DEVICE

TASK is `train-` or `infer-` and `fp32`, `bf16` (autocast, float32 master weights) or, on a card, `tf32`. Prints one
JSON object: milliseconds of every step after the warm-up, and the peak memory in MiB (resident, or the card's).
Both optimizers of PyTorch (`foreach`, `fused`) are tried in the warm-up; the faster one is timed.
Without `transformers`, or without weights in FOLDER, the encoder is the one below, of MiniLM's sizes.
"""

import json
import os
import resource
import statistics
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

try:
    from transformers import AutoModel
except ImportError:
    AutoModel = None

WARM = 4


def main():
    folder, task, *numbers, device = sys.argv[1:]
    batch, length, threads, steps = map(int, numbers)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if AutoModel is not None and os.path.exists(f"{folder}/model.safetensors"):
        bert = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device)
    else:
        bert = Encoder().to(device)
    if precision_of(task) == "tf32":
        torch.set_float32_matmul_precision("high")
    ids = torch.randint(1000, 20000, (batch, length), device=device)
    mask = torch.ones_like(ids)
    kind, precision = task.split("-")[0], precision_of(task)
    cast = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
    step = training(bert, ids, mask, cast) if kind == "train" else inference(bert, ids, mask, cast)
    for _ in range(WARM):
        step()
    times = [timed(step, device) for _ in range(steps)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({"ms": times, "peak_mib": peak, "torch": torch.__version__}))


def precision_of(task):
    return task.split("-")[1]


class Layer(nn.Module):
    """A BERT layer as `transformers` computes it, attention by `scaled_dot_product_attention`."""

    def __init__(self, width, heads, wide):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, wide), nn.Linear(wide, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x, bias):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.norms[0](self.out(mixed.transpose(1, 2).flatten(2)) + x)
        return self.norms[1](self.down(functional.gelu(self.up(x))) + x)


class Encoder(nn.Module):
    def __init__(self, words=30522, width=384, heads=12, wide=1536, layers=6, positions=512):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for rows in (words, positions, 2))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, heads, wide) for _ in range(layers))

    def forward(self, input_ids, attention_mask):
        words, positions, types = self.tables
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = words(input_ids) + positions(places) + types(torch.zeros_like(input_ids))
        x = self.norm(x)
        bias = attention_mask[:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, bias)
        return SimpleNamespace(last_hidden_state=x)


def timed(step, device):
    started = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) * 1e3


def pooled(bert, ids, mask):
    states = bert(input_ids=ids, attention_mask=mask).last_hidden_state
    share = mask.unsqueeze(-1).float()
    return (states * share).sum(1) / share.sum(1).clamp(min=1)


def training(bert, ids, mask, cast):
    # Evaluation mode: no dropout, as on our side.
    bert.eval()
    head = nn.Linear(bert.config.hidden_size, 2, device=ids.device)
    weights = [p for n, p in bert.named_parameters() if "pooler" not in n] + list(head.parameters())
    target = torch.arange(ids.shape[0], device=ids.device) % 2

    def optimizer(fused):
        return torch.optim.AdamW(weights, lr=1e-5, weight_decay=0.01, fused=fused, foreach=not fused)

    def step_with(adamw):
        def step():
            adamw.zero_grad(set_to_none=True)
            with cast:
                logits = head(pooled(bert, ids, mask))
            loss = functional.cross_entropy(logits.float(), target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            adamw.step()
            loss.item()

        return step

    candidates = [step_with(optimizer(fused)) for fused in (False, True)]
    for step in candidates:
        step()
    speed = [statistics.median(timed(step, ids.device.type) for _ in range(3)) for step in candidates]
    return candidates[speed[1] < speed[0]]


def inference(bert, ids, mask, cast):
    bert.eval()

    def step():
        with torch.inference_mode(), cast:
            functional.normalize(pooled(bert, ids, mask), dim=1).cpu()

    return step


main()
