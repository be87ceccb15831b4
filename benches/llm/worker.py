"""One contender of `llm_vs_transformers.py`, in a process of its own.

    python worker.py MODEL CONTENDER BATCH PROMPTS

CONTENDER is `transformers fp32`, `transformers bf16` or `llama.cpp f32`. Prints one JSON object: tokens per second, or
why it was skipped. Prompts are those of `crates/llm/examples/llm_speed.rs`.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

NEW_TOKENS = 64
TEXT = (
    "Topic: billing\nMessage: My bill shows a visit in March that I never had, and the insurance says it was never "
    "told about it.\nTopic: test results\nMessage: When will the results of my blood test from last Tuesday be in the "
    "portal?\n"
)
FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "crates/llm/fixtures"


def main():
    model, contender = pathlib.Path(sys.argv[1]), sys.argv[2]
    batch, count = map(int, sys.argv[3:])
    prompts = [f"{i} texts.\n{TEXT}Topic: number {i}\nMessage:" for i in range(max(count, batch))]
    batches = [prompts[i : i + batch] for i in range(0, len(prompts), batch)]
    if contender.startswith("transformers"):
        run = transformers(model, contender.endswith("bf16"))
    else:
        run = llama_cpp(model, batch)
    run(batches[0])
    started = time.perf_counter()
    tokens = sum(map(run, batches))
    print(json.dumps({"tokens_per_second": tokens / (time.perf_counter() - started)}))


def skip(reason):
    print(json.dumps({"skipped": reason}))
    sys.exit()


def transformers(folder, bf16):
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    # No token ends a text, so that batches stay full.
    model.generation_config.eos_token_id = None
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), padding_side="left")
    tokenizer.pad_token_id = model.config.pad_token_id or 0

    def run(prompts):
        # Every text begins with the token that noisegate puts there too.
        texts = [[model.config.bos_token_id, *tokenizer.encode(prompt)] for prompt in prompts]
        inputs = tokenizer.pad({"input_ids": texts}, return_tensors="pt")
        with torch.inference_mode():
            made = model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        return made.shape[0] * (made.shape[1] - inputs["input_ids"].shape[1])

    return run


def llama_cpp(folder, batch):
    if batch > 1:
        skip("its Python package generates one text at a time")
    try:
        import llama_cpp
    except ImportError:
        skip("no Python package `llama_cpp` (PyPI has its source only, to be compiled)")
    from itertools import islice

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with tempfile.TemporaryDirectory() as made:
        path = pathlib.Path(made) / "model.gguf"
        convert(folder, path, tokenizer)
        threads = int(os.environ["OMP_NUM_THREADS"])
        model = llama_cpp.Llama(str(path), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(prompts):
        ids = [0, *tokenizer.encode(prompts[0], add_special_tokens=False).ids]
        return len(list(islice(model.generate(ids, temp=0.0), NEW_TOKENS)))

    return run


def convert(folder, path, tokenizer):
    """The same weights as a GGUF file of f32."""
    sys.path.append(str(FIXTURES))
    import gguf_files
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    writer = gguf_files.start(path, "llama", config)
    for name, values in load_file(folder / "model.safetensors").items():
        named = gguf_files.renamed(name, values.float().numpy(), "llama", config)
        gguf_files.add(writer, *named, gguf_files.Format.F32)
    gguf_files.add_byte_level(writer, tokenizer, "gpt-2")
    gguf_files.finish(writer)


main()
