#!/usr/bin/env python3
"""Compares llama.cpp's logits with the adapters of this folder with those of PEFT.

pip install llama-cpp-python==0.3.36 numpy; python check.py
Prints a line per NAME.json and scale: the largest difference relative to the largest logit, and the mean KL divergence of
llama.cpp's rows from PEFT's. `python check.py MERGED.gguf NAME` does the same for a merged model.
"""
import json, sys
from pathlib import Path
import llama_cpp as L
import numpy as np

HERE = Path(__file__).resolve().parent


def logits(path, tokens, **settings):
    model = L.Llama(str(path), n_ctx=256, n_batch=256, n_ubatch=256, logits_all=True, type_k=0, type_v=0, flash_attn=False,
        n_threads=1, verbose=False, **settings)
    model.eval(tokens)
    return np.array(model.scores[:len(tokens)], dtype=np.float64)


def log_softmax(rows):
    rows = rows - rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def compare(what, rows, wanted, largest):
    wanted = np.array(wanted)
    p, q = log_softmax(wanted), log_softmax(rows)
    divergence = (np.exp(p) * (p - q)).sum(1).mean()
    print(f"{what:20} difference {np.abs(rows - wanted).max() / largest:.1e}, KL {divergence:.1e}", flush=True)
    assert divergence < 1e-4


def of(name):
    wanted = json.loads((HERE / f"{name}.json").read_text())
    return wanted, json.loads((HERE / f"../hf/{wanted['base']}.json").read_text())


if len(sys.argv) > 2:
    wanted, base = of(sys.argv[2])
    rows = logits(sys.argv[1], base["tokens"])[base["logit_positions"]]
    compare(f"merged {sys.argv[2]}", rows, wanted["logits"], wanted["largest"])
else:
    for path in sorted(HERE.glob("*.json")):
        wanted, base = of(path.stem)
        for key, scale in ("logits", 1.0), ("half", 0.5):
            settings = dict(lora_path=str(path.with_suffix(".gguf")), lora_scale=scale)
            rows = logits(HERE / f"../hf/{wanted['base']}.gguf", base["tokens"], **settings)[base["logit_positions"]]
            compare(f"{path.stem} x {scale}", rows, wanted[key], wanted["largest"])
