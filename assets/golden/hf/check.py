#!/usr/bin/env python3
"""Compares llama.cpp's logits for the models of this folder with those of transformers.

pip install llama-cpp-python==0.3.36 numpy; python check.py [NAME...]
Prints a line per NAME.json: the largest difference relative to the largest logit, the mean KL divergence of llama.cpp's
rows from those of transformers, and the number of greedy steps (fed with transformers' tokens) on which both agree.
"""
import ctypes, json, sys
from pathlib import Path
import llama_cpp as L
import numpy as np

HERE = Path(__file__).resolve().parent
L.llama_backend_init()
quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)


def metadata(model, key):
    text = ctypes.create_string_buffer(64)
    return text.value.decode() if L.llama_model_meta_val_str(model, key.encode(), text, 64) >= 0 else None


def logits(path, tokens):
    model = L.llama_model_load_from_file(str(path).encode(), L.llama_model_default_params())
    assert model, f"{path} cannot be loaded"
    settings = L.llama_context_default_params()
    size = 256 if len(tokens) <= 256 else 512  # selects longrope's factors
    settings.n_ctx = settings.n_batch = settings.n_ubatch = size
    settings.type_k = settings.type_v = 0  # an F32 cache
    settings.flash_attn_type = 0
    settings.n_threads = settings.n_threads_batch = 1
    for beta in ("fast", "slow"):  # keys that llama.cpp reads for a few architectures only
        if value := metadata(model, f"{metadata(model, 'general.architecture')}.rope.scaling.yarn_beta_{beta}"):
            setattr(settings, f"yarn_beta_{beta}", float(value))
    context = L.llama_init_from_model(model, settings)
    batch = L.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
        batch.seq_id[i][0] = 0
    assert L.llama_decode(context, batch) == 0
    size = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    get = lambda i: np.ctypeslib.as_array(L.llama_get_logits_ith(context, i), (size,)).astype(np.float64)
    rows = np.stack([get(i) for i in range(len(tokens))])
    L.llama_batch_free(batch)
    L.llama_free(context)
    L.llama_model_free(model)
    return rows


def log_softmax(rows):
    rows = rows - rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


for path in [HERE / f"{name}.json" for name in sys.argv[1:]] or sorted(HERE.glob("*.json")):
    if path.stem == "bitnet-b1.58":  # only the fork of BitNet's authors knows it
        continue
    wanted = json.loads(path.read_text())
    rows = logits(HERE / wanted["model"], wanted["tokens"] + wanted["greedy"])
    after = rows[len(wanted["tokens"]) - 1:-1].argmax(1)
    p, q = log_softmax(np.array(wanted["logits"])), log_softmax(rows[wanted["logit_positions"]])
    difference = np.abs(rows[wanted["logit_positions"]] - np.array(wanted["logits"])).max() / wanted["largest"]
    print(f"{path.stem:20} difference {difference:.1e}, KL {(np.exp(p) * (p - q)).sum(1).mean():.1e}, "
        f"argmax {(after == np.array(wanted['greedy'])).sum()} of {len(after)}", flush=True)
