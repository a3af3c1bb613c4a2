#!/usr/bin/env python3
"""Makes errors.json and rows.f16.gz: test rows, and the errors of llama.cpp's quantizer without an importance matrix.

pip install llama-cpp-python==0.3.36 numpy; python make.py SmolLM2-135M-Instruct.Q4_1.gguf

rows.f16.gz: three kinds of 128 rows of 256 half floats, in this order: Gaussian, Laplace, and rows of the model's matrices.
errors.json: for each format and kind, the sum of squared errors divided by the sum of squares.
"""
import ctypes, gzip, json, os, sys
import numpy as np
import llama_cpp

ROWS, COLS = 128, 256
FORMATS = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
           "IQ4_NL": 20, "IQ4_XS": 23, "TQ1_0": 34, "TQ2_0": 35, "MXFP4": 39}
TENSORS = ["blk.3.attn_q.weight", "blk.9.attn_v.weight", "blk.14.ffn_up.weight", "blk.20.ffn_down.weight"]

ggml = ctypes.CDLL(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]


def dequantized(name, blocks, count):
    out = np.empty(count, np.float32)
    function = getattr(ggml, "dequantize_row_" + name.lower().replace("_k", "_K"))
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    function(blocks.ctypes.data, out.ctypes.data, count)
    return out


def quantized(name, x):
    out = np.zeros(x.size * 4, np.uint8)
    ggml.ggml_quantize_chunk(FORMATS[name], x.ctypes.data, out.ctypes.data, 0, x.size // COLS, COLS, None)
    return dequantized(name, out, x.size)


def model_rows(path):
    from gguf import GGUFReader, dequantize
    found = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    parts = [dequantize(found[name].data, found[name].tensor_type).reshape(-1)[:ROWS // 4 * COLS] for name in TENSORS]
    return np.concatenate(parts)


def main():
    random = np.random.default_rng(7)
    scale = 0.05
    kinds = {"gaussian": random.normal(0, scale, ROWS * COLS), "laplace": random.laplace(0, scale, ROWS * COLS),
             "model": model_rows(sys.argv[1])}
    kinds = {kind: np.ascontiguousarray(x.astype(np.float16)) for kind, x in kinds.items()}
    errors = {}
    for name in FORMATS:
        errors[name] = {}
        for kind, x in kinds.items():
            x = x.astype(np.float32)
            error = (quantized(name, x).astype(np.float64) - x) ** 2
            errors[name][kind] = float(error.sum() / (x.astype(np.float64) ** 2).sum())
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "errors.json"), "w") as file:
        json.dump(errors, file, indent=1)
        file.write("\n")
    rows = b"".join(x.tobytes() for x in kinds.values())
    with open(os.path.join(here, "rows.f16.gz"), "wb") as file:
        file.write(gzip.compress(rows, 9, mtime=0))


main()
