#!/usr/bin/env python3
"""Write a GGUF in another weight format with llama.cpp's quantizer. For benchmarks, whose speed depends on the format only.

pip install llama-cpp-python==0.3.36; python benches/requantize.py IN.gguf OUT.gguf (Q4_0|Q4_1|Q8_0|F16|BF16|F32)
"""
import ctypes, sys
import llama_cpp as L

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}  # llama_ftype
source, target, name = sys.argv[1:]
L.llama_backend_init()
params = L.llama_model_quantize_default_params()
params.ftype, params.allow_requantize, params.pure = TYPES[name], True, False
params.token_embedding_type = params.output_tensor_type = 8  # Q8_0, as in the published files
assert L.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) == 0
