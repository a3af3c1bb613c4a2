#!/usr/bin/env python3
"""Cost of llama.cpp's KV formats in the next token's distribution: the mean KL divergence from an f16 cache.

pip install llama-cpp-python==0.3.36 numpy
python benches/kv_divergence.py MODEL.gguf TOKENS.json ... [--f16 OUT.gguf] [--formats F32,BF16,Q8_0,Q4_0] [--threads 1]
Each JSON file is an array of ids, or golden data with `tokens` and `greedy`. The divergence is the mean over all
positions of all files. --f16 first writes the model with f16 weights and uses that: then activations are not rounded
to 8 bits, which turns any small difference into noise. Every cache is evaluated with flash attention, which quantized
values need. Each file is one context and one batch. `weft tokenize --json` gives the ids of a text, and the ignored
test `kv_formats::every_format_over_a_text` is this table of the engine.
"""
import argparse, ctypes, json
import llama_cpp as L
import numpy as np

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "BF16": 30}  # ggml_type


def as_f16(source, target):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.token_embedding_type, params.output_tensor_type = 1, True, 1, 1
    assert L.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) == 0


def tokens_of(path):
    data = json.load(open(path))
    return data["tokens"] + data.get("greedy", []) if isinstance(data, dict) else data


def rows(model, kv, texts, threads):
    """Log-probabilities at every position, text after text."""
    p = L.llama_context_default_params()
    p.n_ctx = p.n_batch = p.n_ubatch = -(-max(map(len, texts)) // 256) * 256
    p.n_threads = p.n_threads_batch = threads
    p.type_k = p.type_v = TYPES[kv]
    p.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = L.llama_init_from_model(model, p)
    if not context:
        return None
    words = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    out = []
    for text in texts:
        L.llama_memory_clear(L.llama_get_memory(context), True)
        batch = L.llama_batch_init(len(text), 0, 1)
        batch.n_tokens = len(text)
        for i, token in enumerate(text):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, True
        assert L.llama_decode(context, batch) == 0
        logits = np.ctypeslib.as_array(L.llama_get_logits(context), (len(text), words)).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        out.append((logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32))
        L.llama_batch_free(batch)
    L.llama_free(context)
    return out


p = argparse.ArgumentParser()
p.add_argument("model"); p.add_argument("tokens", nargs="+"); p.add_argument("--f16")
p.add_argument("--formats", default="F32,BF16,Q8_0,Q4_0"); p.add_argument("--threads", type=int, default=1)
a = p.parse_args()
L.llama_backend_init()
quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)
if a.f16:
    as_f16(a.model, a.f16)
model = L.llama_model_load_from_file((a.f16 or a.model).encode(), L.llama_model_default_params())
texts = [tokens_of(path) for path in a.tokens]
exact = rows(model, "F16", texts, a.threads)
print(f"{sum(map(len, texts))} positions in {len(texts)} texts")
for kv in a.formats.split(","):
    found = rows(model, kv, texts, a.threads)
    if found is None:
        print(f"{kv}: refused")
        continue
    kl, same = [], []
    for e, f in zip(exact, found):
        kl.append((np.exp(e.astype(np.float64)) * (e.astype(np.float64) - f)).sum(1))
        same.append(e.argmax(1) == f.argmax(1))
    kl, same = np.concatenate(kl), np.concatenate(same)
    print(f"{kv}: mean KL {kl.mean():.3e}, median {np.median(kl):.3e}, largest {kl.max():.3e}, best token kept {same.mean():.4f}")
