#!/usr/bin/env python3
"""Text of `tiny-lm` as tokens: plain documents, and snippets with a topic for the mixed forms.

    python3 corpus.py DATA_FOLDER TOKENIZER_JSON OUT.npz

- DATA_FOLDER: holds `wiki_en`, `gutenberg_books`, `clinc150` (train: learnt from), `wiki_en` and
  `wikitext2_valid_test` (test: measured on), and `ag_news`, `cfpb_complaints`, `banking77`
  (both parts: nothing of them is learnt from; a snippet or paragraph that shares eight words in a
  row with one of their texts is dropped).
- OUT.npz: `plain_*` (token streams, documents ended by token 0), `seg_*` (snippets: offsets into
  `seg_tokens`, topic), `topic_*` (tokens of each topic, with a leading space), `words_*`
  (the fixed words of the forms), `eval_*`.

Needs: numpy, tokenizers, zstandard.
"""
import io, json, re, sys
import numpy as np
import zstandard
from tokenizers import Tokenizer

data, tokenizer_path, out = sys.argv[1:4]
tokenizer = Tokenizer.from_file(tokenizer_path)
NGRAM = 8


def rows(name, part):
    with open(f"{data}/{name}.{part}.jsonl.zst", "rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            yield json.loads(line)


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def ngrams(text):
    w = words(text)
    return (hash(tuple(w[i : i + NGRAM])) for i in range(len(w) - NGRAM + 1))


kept_out = set()
whole = set()
for name in ("ag_news", "cfpb_complaints", "banking77"):
    for part in ("train", "test"):
        for row in rows(name, part):
            kept_out.update(ngrams(row["text"]))
            whole.add(" ".join(words(row["text"])))


def clean(text):
    return " ".join(words(text)) not in whole and not any(n in kept_out for n in ngrams(text))


def encode(texts):
    return [np.array(e.ids, dtype=np.uint16) for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def snippets(paragraph):
    """Runs of whole sentences of 8 to 60 words."""
    run, length = [], 0
    for sentence in re.split(r"(?<=[.!?])\s+(?=[\"'A-Z0-9])", paragraph):
        n = len(sentence.split())
        if length and length + n > 45:
            yield " ".join(run)
            run, length = [], 0
        run.append(sentence)
        length += n
        if length >= 12 and len(run) % 2 == (len(sentence) % 2):
            yield " ".join(run)
            run, length = [], 0
    if length >= 8:
        yield " ".join(run)


held_titles = {re.sub(r"\W+", " ", row["text"].strip().splitlines()[0]).strip().lower() for part in ("train", "test") for row in rows("wikitext2_valid_test", part)}
dropped = 0
plain, seg_text, seg_topic, topics = {"wiki": [], "books": []}, [], [], []


def add_topic(name):
    topics.append(name)
    return len(topics) - 1


kinds = []
for row in rows("wiki_en", "train"):
    title = row["title"]
    if re.sub(r"\W+", " ", title).strip().lower() in held_titles:
        continue
    paragraphs = []
    for paragraph in row["text"].split("\n"):
        if clean(paragraph):
            paragraphs.append(paragraph)
        else:
            dropped += 1
    plain["wiki"].append(f"{title}\n\n" + "\n".join(paragraphs))
    topic = add_topic(re.sub(r"\s*\(.*?\)", "", title).strip() or title)
    for paragraph in paragraphs:
        for snippet in snippets(paragraph):
            if 8 <= len(snippet.split()) <= 70:
                seg_text.append(snippet), seg_topic.append(topic), kinds.append(0)
for row in rows("gutenberg_books", "train"):
    if clean(row["text"]):
        plain["books"].append(row["text"])
intents = {}
for row in rows("clinc150", "train"):
    if not clean(row["text"]):
        dropped += 1
        continue
    label = row["label"].replace("_", " ")
    if label not in intents:
        intents[label] = add_topic(label)
    seg_text.append(row["text"]), seg_topic.append(intents[label]), kinds.append(1)
print("dropped", dropped, "snippets", len(seg_text), "topics", len(topics), flush=True)

arrays = {}
end = np.array([0], dtype=np.uint16)
for name, documents in plain.items():
    order = np.random.default_rng(20240522).permutation(len(documents))
    tokens = encode(documents)
    arrays[f"plain_{name}"] = np.concatenate([x for i in order for x in (tokens[i], end)])
    print(name, len(arrays[f"plain_{name}"]), flush=True)
tokens = encode([" " + t for t in seg_text])
arrays["seg_tokens"] = np.concatenate(tokens)
arrays["seg_length"] = np.array([len(t) for t in tokens], dtype=np.uint16)
arrays["seg_topic"] = np.array(seg_topic, dtype=np.uint32)
arrays["seg_kind"] = np.array(kinds, dtype=np.uint8)
# Topics as they stand, then all of them in lower case.
both = topics + [t.lower() for t in topics]
for key, before in (("topic", " "), ("bare", "")):
    tokens = encode([before + t for t in both])
    arrays[f"{key}_tokens"] = np.concatenate(tokens)
    arrays[f"{key}_length"] = np.array([len(t) for t in tokens], dtype=np.uint16)
for key, text in (("topic", "Topic:"), ("line", "\n"), ("message", "Message:"), ("colon", ":")):
    arrays[f"words_{key}"] = encode([text])[0]
for name, field in (("wiki_en", True), ("wikitext2_valid_test", False)):
    documents = [f"{r['title']}\n\n{r['text']}" if field else r["text"] for r in rows(name, "test")]
    tokens = encode(documents)
    arrays[f"eval_{name}"] = np.concatenate([x for t in tokens for x in (t, end)])
    arrays[f"bytes_{name}"] = np.array([sum(len(d.encode()) for d in documents)])
np.savez_compressed(out, **arrays)
for key, value in arrays.items():
    print(key, value.shape, value.dtype)
