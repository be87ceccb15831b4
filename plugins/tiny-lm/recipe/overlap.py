#!/usr/bin/env python3
"""Checks that nothing of the benchmark data was learnt: reads the tokens that were trained on.

    python3 overlap.py DATA_FOLDER TOKENIZER_JSON CORPUS.npz

Decodes every training token of CORPUS.npz (plain documents and snippets) and looks for eight words
in a row, or a whole text, of `ag_news`, `cfpb_complaints` and `banking77` (train and test).
Prints one line per data set; exit code 1 if a row is found.

Needs: numpy, tokenizers, zstandard.
"""
import io, json, re, sys
import numpy as np
import zstandard
from tokenizers import Tokenizer

data, tokenizer_path, corpus = sys.argv[1:4]
tokenizer = Tokenizer.from_file(tokenizer_path)
arrays = np.load(corpus)
NGRAM = 8


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def ngrams(w):
    return (hash(tuple(w[i : i + NGRAM])) for i in range(len(w) - NGRAM + 1))


learnt, whole = set(), set()


def learn(text, shorts):
    w = words(text)
    learnt.update(ngrams(w))
    if shorts:
        whole.add(" ".join(w))


for name in ("plain_wiki", "plain_books"):
    tokens = arrays[name]
    ends = np.flatnonzero(tokens == 0)
    for a, b in zip(np.concatenate([[0], ends[:-1] + 1]), ends):
        # Paragraph by paragraph: words that meet over a break that a dropped paragraph left
        # stood nowhere side by side.
        for paragraph in tokenizer.decode(tokens[a:b].tolist()).split("\n"):
            learn(paragraph, False)
at = np.concatenate([[0], np.cumsum(arrays["seg_length"].astype(np.int64))])
segments = arrays["seg_tokens"]
for a, b in zip(at, at[1:]):
    learn(tokenizer.decode(segments[a:b].tolist()), True)

bad = 0
for name in ("ag_news", "cfpb_complaints", "banking77"):
    rows = hits = 0
    for part in ("train", "test"):
        with open(f"{data}/{name}.{part}.jsonl.zst", "rb") as file:
            for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
                w = words(json.loads(line)["text"])
                rows += 1
                hits += any(n in learnt for n in ngrams(w)) or " ".join(w) in whole
    print(f"{name}: {hits} of {rows} rows share {NGRAM} words in a row, or a whole text, with what was learnt")
    bad += hits
sys.exit(1 if bad else 0)
