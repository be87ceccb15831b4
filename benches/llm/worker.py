"""One contender of `llm_vs_transformers.py`, in a process of its own.

    python worker.py MODEL CONTENDER BATCH PROMPTS

CONTENDER is `transformers fp32`, `transformers bf16`, `llama.cpp f32` or, for a GGUF file with the weights as they are
there, `llama.cpp`. Prints one JSON object: tokens per second, or why it was skipped. Prompts are those of `crates/llm/examples/llm_speed.rs`.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

NEW_TOKENS = 64
# Of one text; the prompts have about 80 tokens.
CONTEXT = 512
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
        run, batches = llama_cpp(model, batch, not contender.endswith("f32")), [prompts]
    run(prompts[:batch])
    started = time.perf_counter()
    tokens = sum(map(run, batches))
    print(json.dumps({"tokens_per_second": tokens / (time.perf_counter() - started)}))


def skip(reason):
    print(json.dumps({"skipped": reason}))
    sys.exit()


def transformers(folder, bf16):
    if folder.is_file():
        skip("it reads folders")
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


def llama_cpp(model, batch, as_it_is):
    try:
        import xllamacpp
    except ImportError:
        skip("no Python package `xllamacpp` (`cargo xtask setup llama-cpp` unpacks it to target/noisegate/llama-cpp)")
    from concurrent.futures import ThreadPoolExecutor

    options = xllamacpp.CommonParams()
    options.n_parallel, options.n_ctx = batch, batch * CONTEXT
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = int(os.environ["OMP_NUM_THREADS"])
    with tempfile.TemporaryDirectory() as made:
        path = model
        if not as_it_is:
            path = pathlib.Path(made) / "model.gguf"
            (unpack if model.is_file() else convert)(model, path)
        elif not model.is_file():
            skip("a folder's weights are f32")
        options.model.path = str(path)
        server = xllamacpp.Server(options)

    def one(prompt):
        asked = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0.0, "cache_prompt": False}
        return server.handle_completions(asked)["usage"]["completion_tokens"]

    pool = ThreadPoolExecutor(batch)
    # It batches on its own: a text that ends makes room for the next.
    return lambda prompts: sum(pool.map(one, prompts))


def unpack(packed, path):
    """The same GGUF file with its weights as f32."""
    import gguf

    reader = gguf.GGUFReader(packed)
    field = lambda name: reader.fields[name].contents()
    writer = gguf.GGUFWriter(path, field("general.architecture"))
    for name, about in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        inner = about.types[-1] if len(about.types) > 1 else None
        writer.add_key_value(name, about.contents(), about.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def convert(folder, path):
    """The same weights as a GGUF file of f32."""
    sys.path.append(str(FIXTURES))
    import gguf_files
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import AutoConfig

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = AutoConfig.from_pretrained(folder)
    writer = gguf_files.start(path, "llama", config)
    for name, values in load_file(folder / "model.safetensors").items():
        named = gguf_files.renamed(name, values.float().numpy(), "llama", config)
        gguf_files.add(writer, *named, gguf_files.Format.F32)
    gguf_files.add_byte_level(writer, tokenizer, "gpt-2")
    gguf_files.finish(writer)


main()
