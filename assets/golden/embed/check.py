#!/usr/bin/env python3
"""Compares llama.cpp's embeddings for the models of this folder with those of transformers.

pip install llama-cpp-python==0.3.36 numpy; python check.py [SmolLM2-135M-Instruct.Q4_1.gguf]
Prints a line per NAME.json and pooling method: the largest difference, relative to the largest component.
"""
import gzip, json, sys
from pathlib import Path
import llama_cpp as L
import numpy as np

HERE = Path(__file__).resolve().parent
L.llama_backend_init()
quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)
NONE, MEAN, CLS, LAST = range(4)


def embeddings(path, texts, pooling):
    model = L.llama_model_load_from_file(str(path).encode(), L.llama_model_default_params())
    assert model, f"{path} cannot be loaded"
    settings = L.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 256
    settings.embeddings, settings.pooling_type = True, pooling
    settings.type_k = settings.type_v = 0  # an F32 cache
    settings.flash_attn_type = 0
    settings.n_threads = settings.n_threads_batch = 1
    context, width, rows = L.llama_init_from_model(model, settings), L.llama_model_n_embd(model), []
    for tokens in texts:
        if memory := L.llama_get_memory(context):
            L.llama_memory_clear(memory, True)
        batch = L.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        assert (L.llama_decode if memory else L.llama_encode)(context, batch) == 0
        get = lambda p: np.ctypeslib.as_array(p, (width,)).astype(np.float64)
        if pooling == NONE:
            rows.append(np.stack([get(L.llama_get_embeddings_ith(context, i)) for i in range(len(tokens))]))
        else:
            rows.append(get(L.llama_get_embeddings_seq(context, 0))[None])
        L.llama_batch_free(batch)
    L.llama_free(context)
    L.llama_model_free(model)
    return rows


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def report(name, pooling, found, wanted):
    largest = max(np.abs(rows).max() for rows in wanted)
    print(f"{name:12} {pooling:5} {max(np.abs(a - b).max() for a, b in zip(found, wanted)) / largest:.1e}", flush=True)


for name in ("bert", "nomic-bert"):
    texts = json.loads((HERE / f"{name}.json").read_text())["texts"]
    floats = np.frombuffer(gzip.decompress((HERE / f"{name}.f32.gz").read_bytes()), "<f4").astype(np.float64)
    states = np.split(floats.reshape(sum(map(len, texts)), -1), np.cumsum([len(text) for text in texts])[:-1])
    path = HERE / f"{name}.gguf"
    report(name, "none", embeddings(path, texts, NONE), states)
    report(name, "mean", embeddings(path, texts, MEAN), [rows.mean(0, keepdims=True) for rows in states])
    report(name, "cls", embeddings(path, texts, CLS), [rows[:1] for rows in states])
if len(sys.argv) > 1:
    texts = json.loads((HERE / "smollm2.json").read_text())["texts"]
    floats = np.frombuffer(gzip.decompress((HERE / "smollm2.f32.gz").read_bytes()), "<f4").astype(np.float64)
    rows = floats.reshape(len(texts), 3, -1)
    for at, (pooling, kind) in enumerate([("mean", MEAN), ("cls", CLS), ("last", LAST)]):
        found = [unit(row) for row in embeddings(sys.argv[1], texts, kind)]
        report("smollm2", pooling, found, rows[:, at:at + 1])
