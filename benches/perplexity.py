#!/usr/bin/env python3
"""Computes llama.cpp's perplexity of a text in the same way as `weft perplexity`: non-overlapping chunks, BOS first if the
model uses one, and the second half of each chunk scored.

pip install llama-cpp-python==0.3.36 numpy; python benches/perplexity.py MODEL.gguf TEXT [CONTEXT] [THREADS]
"""
import json, sys
import numpy as np
from llama_cpp import Llama

path, text = sys.argv[1:3]
context = int(sys.argv[3]) if len(sys.argv) > 3 else 512
threads = int(sys.argv[4]) if len(sys.argv) > 4 else 2
model = Llama(path, n_ctx=context, n_batch=context, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False)
tokens = model.tokenize(open(text, "rb").read(), add_bos=True, special=False)
first = model.tokenize(b"", add_bos=True)[:1]
losses = []
for start in range(0, len(tokens) - context + 1, context):
    chunk = first + tokens[start:start + context][len(first):]
    model.reset()
    model.eval(chunk)
    scored = np.arange(context // 2, context - 1)
    logits = model.scores[scored].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    target = np.array(chunk)[scored + 1]
    losses.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(scored)), target])
losses = np.concatenate(losses)
perplexity = float(np.exp(losses.mean()))
error = float(losses.std() / np.sqrt(len(losses) - 1) * perplexity)
print(json.dumps({"perplexity": perplexity, "error": error, "tokens": len(losses)}))
