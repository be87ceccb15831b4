#!/usr/bin/env python3
"""Trains `tiny-lm` on one CUDA GPU from what `corpus.py` wrote.

    python3 pretrain.py CORPUS.npz OUT_FOLDER SECONDS [DROPOUT]

Writes `model.safetensors` (bf16, Hugging Face names), `config.json` and `log.jsonl`.

Windows of 512 tokens, packed: 55 % plain documents (82 % wiki, 18 % books), 30 % few-shot lists
(`Topic: A` / `Message: ...`, one to four topics in turn), 15 % one-line texts after a control code
(`a: ...`). The mixed forms are drawn anew from the snippets, in topic order, as training goes on.
Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) for the
matrices inside the layers, AdamW for embedding and gains; warm-up, constant, linear to zero.

Needs: torch (CUDA), numpy, safetensors.
"""
import json, math, multiprocessing, os, sys, time
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

corpus_path, out, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
dropout = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
os.makedirs(out, exist_ok=True)
VOCAB, HIDDEN, LAYERS, HEADS, FF, WINDOW, ROWS = 4096, 256, 7, 8, 768, 512, 128
HEAD = HIDDEN // HEADS
SEED = 20240522
c = dict(np.load(corpus_path))
torch.manual_seed(SEED)
torch.backends.cuda.matmul.allow_tf32 = True


# Data ---------------------------------------------------------------------------------------
def starts(lengths):
    return np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])


seg_at, topic_at, bare_at = starts(c["seg_length"]), starts(c["topic_length"]), starts(c["bare_length"])
by_topic = {}
for index, topic in enumerate(c["seg_topic"]):
    by_topic.setdefault(int(topic), []).append(index)
is_intent = {int(t) for t, k in zip(c["seg_topic"], c["seg_kind"]) if k == 1}
topics = [np.array([t for t in by_topic if t not in is_intent]), np.array(sorted(is_intent))]
END = np.array([0], dtype=np.uint16)
COUNT = len(c["topic_length"]) // 2
INTENTS = 0.08


def seg(i):
    return c["seg_tokens"][seg_at[i] : seg_at[i + 1]]


def few_shot(rng):
    """A list of texts on one to four topics."""
    pool = topics[1] if rng.random() < INTENTS else topics[0]
    lower = COUNT * (rng.random() < 0.6)
    chosen = rng.choice(pool, rng.integers(1, 5), replace=False)
    decks = {t: list(rng.permutation(by_topic[t])) for t in chosen}
    parts, size = [], 0
    plain = rng.random() < 0.3
    while size < 480 and any(decks.values()):
        t = chosen[rng.integers(len(chosen))]
        if not decks[t]:
            continue
        text = seg(decks[t].pop())
        if plain:
            head = [c["bare_tokens"][bare_at[t + lower] : bare_at[t + lower + 1]], c["words_colon"]]
        else:
            head = [c["words_topic"], c["topic_tokens"][topic_at[t + lower] : topic_at[t + lower + 1]], c["words_line"], c["words_message"]]
        parts += head + [text, c["words_line"]]
        size += sum(map(len, head)) + len(text) + 1
    return parts + [END]


def control(rng):
    """One text after its control code."""
    pool = topics[1] if rng.random() < INTENTS else topics[0]
    t = pool[rng.integers(len(pool))]
    name = t + COUNT * (rng.random() < 0.6)
    return [c["bare_tokens"][bare_at[name] : bare_at[name + 1]], c["words_colon"], seg(by_topic[t][rng.integers(len(by_topic[t]))]), END]


def packer(make, rng):
    """Endless windows of packed documents."""
    held = np.empty(0, dtype=np.uint16)
    while True:
        parts, size = [held], len(held)
        while size < 64 * WINDOW + 1:
            document = np.concatenate(make(rng))
            parts.append(document)
            size += len(document)
        flat = np.concatenate(parts)
        for i in range(64):
            yield flat[i * WINDOW : i * WINDOW + WINDOW + 1]
        held = flat[64 * WINDOW :]


def plain_windows(tokens, rng):
    while True:
        shift = rng.integers(WINDOW)
        count = (len(tokens) - 1 - shift) // WINDOW
        for i in rng.permutation(count):
            a = shift + i * WINDOW
            yield tokens[a : a + WINDOW + 1]


def batches(seed):
    rng = np.random.default_rng(seed)
    sources = [plain_windows(c["plain_wiki"], rng), plain_windows(c["plain_books"], rng), packer(few_shot, rng), packer(control, rng)]
    counts = np.round(np.array([0.45, 0.10, 0.30, 0.15]) * ROWS).astype(int)
    counts[0] += ROWS - counts.sum()
    while True:
        yield np.stack([next(s) for s, n in zip(sources, counts) for _ in range(n)]).astype(np.int64)


def worker(seed, outbox):
    for batch in batches(seed):
        outbox.put(batch)


ctx = multiprocessing.get_context("fork")
boxes = [ctx.Queue(maxsize=8) for _ in range(6)]
workers = [ctx.Process(target=worker, args=(SEED + i, box), daemon=True) for i, box in enumerate(boxes)]
for process in workers:
    process.start()


# Model --------------------------------------------------------------------------------------
class Weights(torch.nn.Module):
    def __init__(self):
        super().__init__()
        p = torch.nn.Parameter
        normal = lambda *s, std=0.02: p(torch.randn(*s) * std)
        self.embed = normal(VOCAB, HIDDEN)
        self.q, self.k, self.v = (normal(LAYERS, HIDDEN, HIDDEN, std=HIDDEN**-0.5) for _ in range(3))
        self.o = p(torch.zeros(LAYERS, HIDDEN, HIDDEN))
        self.gate, self.up = (normal(LAYERS, FF, HIDDEN, std=HIDDEN**-0.5) for _ in range(2))
        self.down = p(torch.zeros(LAYERS, HIDDEN, FF))
        self.norm1, self.norm2 = p(torch.ones(LAYERS, HIDDEN)), p(torch.ones(LAYERS, HIDDEN))
        self.norm = p(torch.ones(HIDDEN))
        angle = torch.arange(WINDOW)[:, None] * 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)[None]
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def rotate(self, x):
        a, b = x.float().chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1).to(x.dtype)

    def forward(self, tokens, target):
        rms = lambda x, g: F.rms_norm(x.float(), (HIDDEN,), g, 1e-5)
        drop = lambda x: F.dropout(x, dropout, self.training) if dropout else x
        x = F.embedding(tokens, self.embed)
        b, t, _ = x.shape
        heads = lambda y: y.view(b, t, HEADS, HEAD).transpose(1, 2)
        for i in range(LAYERS):
            h = rms(x, self.norm1[i])
            q, k, v = (heads(F.linear(h, w[i])) for w in (self.q, self.k, self.v))
            y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
            x = x + drop(F.linear(y.transpose(1, 2).reshape(b, t, HIDDEN), self.o[i])).float()
            h = rms(x, self.norm2[i])
            x = x + drop(F.linear(F.silu(F.linear(h, self.gate[i])) * F.linear(h, self.up[i]), self.down[i])).float()
        logits = F.linear(rms(x, self.norm), self.embed).float()
        return F.cross_entropy(logits.view(-1, VOCAB), target.reshape(-1))


model = Weights().cuda()
print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
matrices = [model.q, model.k, model.v, model.o, model.gate, model.up, model.down]
others = [model.embed, model.norm1, model.norm2, model.norm]
adam = torch.optim.AdamW(
    [{"params": [model.embed], "weight_decay": 0.05}, {"params": others[1:], "weight_decay": 0.0}], lr=4e-3, betas=(0.9, 0.98), eps=1e-10, fused=True
)
momentum = [torch.zeros_like(m) for m in matrices]


@torch.compile
def orthogonal(g):
    x = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


step_model = torch.compile(model)


def loss_of(batch):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        return step_model(batch[:, :-1], batch[:, 1:])


def evaluate(name):
    model.eval()
    tokens = torch.from_numpy(c[f"eval_{name}"].astype(np.int64))
    count = (len(tokens) - 1) // WINDOW
    windows = torch.stack([tokens[i * WINDOW : i * WINDOW + WINDOW + 1] for i in range(count)])
    windows = windows[: count - count % ROWS]
    with torch.no_grad():
        losses = [loss_of(w.cuda()).item() for w in windows.split(ROWS)]
    model.train()
    nats = sum(losses) / len(losses)
    return nats * len(tokens) / math.log(2) / int(c[f"bytes_{name}"][0])


WARM, PEAK_MUON, DECAY = 100, 0.02, 0.55
log = open(f"{out}/log.jsonl", "w")
began, step, tokens_seen, smooth = None, 0, 0, None
next_eval = 0.1
started = time.time()
while True:
    batch = torch.from_numpy(boxes[step % len(boxes)].get()).cuda(non_blocking=True)
    if step == 5:
        torch.cuda.synchronize()
        began = time.time()
    part = 0.0 if began is None else (time.time() - began) / (seconds - (began - started))
    if part >= 1:
        break
    rate = min(1.0, (step + 1) / WARM) * min(1.0, max(1.0 - part, 0.0) / DECAY)
    loss = loss_of(batch)
    loss.backward()
    with torch.no_grad():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = 4e-3 * rate
        adam.step()
        for m, v in zip(matrices, momentum):
            v.lerp_(m.grad, 0.05)
            u = orthogonal(m.grad.lerp(v, 0.95))
            scale = PEAK_MUON * rate * max(1.0, m.size(-2) / m.size(-1)) ** 0.5
            m.mul_(1 - 0.1 * PEAK_MUON * rate)
            m.add_(u, alpha=-scale)
        model.zero_grad(set_to_none=True)
    step += 1
    tokens_seen += ROWS * WINDOW
    if step % 100 == 0 or part > next_eval:
        value = loss.item()
        smooth = value if smooth is None else 0.8 * smooth + 0.2 * value
        line = {"step": step, "tokens": tokens_seen, "loss": round(smooth, 4), "seconds": round(time.time() - started, 1), "rate": round(rate, 3)}
        if part > next_eval:
            next_eval += 0.1
            line |= {n: round(evaluate(n), 4) for n in ("wiki_en", "wikitext2_valid_test")}
        print(json.dumps(line), flush=True)
        log.write(json.dumps(line) + "\n")
line = {"step": step, "tokens": tokens_seen, "final": True, "dropout": dropout} | {n: round(evaluate(n), 4) for n in ("wiki_en", "wikitext2_valid_test")}
print(json.dumps(line), flush=True)
log.write(json.dumps(line) + "\n")
log.close()

state = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
for i in range(LAYERS):
    base = f"model.layers.{i}"
    for key, value in (("q", model.q), ("k", model.k), ("v", model.v), ("o", model.o)):
        state[f"{base}.self_attn.{key}_proj.weight"] = value[i]
    for key, value in (("gate", model.gate), ("up", model.up), ("down", model.down)):
        state[f"{base}.mlp.{key}_proj.weight"] = value[i]
    state[f"{base}.input_layernorm.weight"] = model.norm1[i]
    state[f"{base}.post_attention_layernorm.weight"] = model.norm2[i]
save_file({k: v.detach().bfloat16().contiguous().cpu() for k, v in state.items()}, f"{out}/model.safetensors", metadata={"format": "pt"})
config = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=HIDDEN, intermediate_size=FF, vocab_size=VOCAB,
    num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=WINDOW,
    rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, hidden_act="silu", bos_token_id=0, eos_token_id=0,
    pad_token_id=1, torch_dtype="bfloat16",
)
with open(f"{out}/config.json", "w") as file:
    json.dump(config, file, indent=2)
    file.write("\n")
for process in workers:
    process.kill()
