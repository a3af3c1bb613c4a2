#!/usr/bin/env python3
"""Makes tiny-llama in each weight format that the engine computes with, and references from llama.cpp for it and for BitNet.

pip install llama-cpp-python==0.3.36 numpy; python make_formats.py
Writes tiny-llama-FORMAT.gguf (llama.cpp's quantizer, every matrix in that format) and a JSON beside it:
tokens       tiny-llama's prompt and the 16 tokens that llama.cpp generates greedily after it
logits       rows after each of those tokens, from the same weights expanded to F32, so activations are not rounded
divergence   mean KL divergence from those rows of llama.cpp's rows on the file itself, which rounds activations to 8 bits
For the two tiny-bitnet files it writes only the JSON, as NAME-exact.json.
"""
import ctypes, json, tempfile
from pathlib import Path
import llama_cpp as L
import numpy as np

HERE = Path(__file__).parent
FORMATS = {"f32": 0, "q4_0": 2, "q4_1": 3, "q8_0": 7, "bf16": 32}  # llama_ftype

L.llama_backend_init()
quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)


def quantize(source, target, ftype):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.pure, params.nthread = ftype, True, True, 1
    assert L.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) == 0


class Model:
    def __init__(self, path):
        self.model = L.llama_model_load_from_file(str(path).encode(), L.llama_model_default_params())
        self.vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        settings = L.llama_context_default_params()
        settings.n_ctx = settings.n_batch = 512
        self.context = L.llama_init_from_model(self.model, settings)

    def logits(self, tokens):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)
        batch = L.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        assert L.llama_decode(self.context, batch) == 0
        get = lambda i: np.ctypeslib.as_array(L.llama_get_logits_ith(self.context, i), (self.vocabulary,))
        rows = np.stack([get(i).astype(np.float64) for i in range(len(tokens))])
        L.llama_batch_free(batch)
        return rows


def log_softmax(rows):
    rows = rows - rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def compare(path, name, target):
    tokens = json.loads((HERE / f"{name}.json").read_text())["tokens"]
    with tempfile.TemporaryDirectory() as folder:
        exact_path = Path(folder) / "exact.gguf"
        quantize(path, exact_path, 0)
        exact, peer = Model(exact_path), Model(path)
        for _ in range(16):
            tokens.append(int(peer.logits(tokens)[-1].argmax()))
        wanted = exact.logits(tokens)
        p, q = log_softmax(wanted), log_softmax(peer.logits(tokens))
        divergence = float((np.exp(p) * (p - q)).sum(1).mean())
    logits = [[round(float(x), 5) for x in row] for row in wanted]
    target.write_text(json.dumps(dict(model=path.name, tokens=tokens, divergence=divergence, logits=logits)))
    print(target.name, divergence)


for name, ftype in FORMATS.items():
    path = HERE / f"tiny-llama-{name}.gguf"
    quantize(HERE / "tiny-llama.gguf", path, ftype)
    compare(path, "tiny-llama", path.with_suffix(".json"))
for name in ("tiny-bitnet", "tiny-bitnet-tq1"):
    compare(HERE / f"{name}.gguf", name, HERE / f"{name}-exact.json")
quantize(HERE / "tiny-mixtral.gguf", HERE / "tiny-mixtral-q4_0.gguf", FORMATS["q4_0"])
