#!/usr/bin/env python3
"""Makes mixes.json.gz: the format that llama.cpp's quantizer gives each matrix of synthetic models, for every type.

pip install llama-cpp-python==0.3.36; python mixes.py path/to/weft

Each model is made by `weft synth` with the arguments in MODELS; the test makes the same. `base` is the format of most
matrices; only those with another format are listed, by format.
"""
import ctypes, gzip, json, os, re, subprocess, sys, tempfile
from collections import Counter
import llama_cpp

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
         "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "Q2_K_S": 21, "IQ4_NL": 25, "IQ4_XS": 30,
         "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4_MOE": 38}
# Architecture, layers, embedding, feed-forward, query heads, KV heads, true if the embedding is also the head, experts.
MODELS = {
    "grouped": ["llama", 16, 256, 512, 8, 2, True, 0],
    "untied": ["qwen2", 19, 256, 320, 4, 2, False, 0],
    "narrow": ["llama", 8, 288, 512, 9, 3, True, 0],
    "narrow untied": ["llama", 9, 288, 512, 9, 9, False, 0],
    "fused": ["phi3", 10, 256, 512, 8, 2, False, 0],
    "eight experts": ["llama", 9, 256, 256, 8, 4, False, 8],
    "four experts": ["qwen3moe", 17, 256, 256, 8, 2, False, 4],
    "shared expert": ["qwen2moe", 8, 256, 256, 4, 4, False, 4],
    "large": ["llama", 80, 256, 256, 4, 2, False, 0],
    "odd": ["llama", 4, 80, 96, 5, 5, False, 0],
}
PURE = ["Q4_0", "Q4_K_M", "Q2_K", "IQ4_XS", "TQ2_0"]


def synth(weft, path, model):
    arch, layers, embedding, feed_forward, heads, kv_heads, tied, experts = model
    line = [weft, "synth", path, "--type", "f16", "--arch", arch, "--layers", layers, "--embedding", embedding, "--feed-forward",
            feed_forward, "--heads", heads, "--kv-heads", kv_heads, "--vocab", 272, "--tied" if tied else "--untied"]
    if experts:
        line += ["--experts", experts, "--expert-feed-forward", feed_forward]
    subprocess.run([str(word) for word in line], check=True, capture_output=True)


# The quantizer's log line of a tensor: its name, its format, and the new format if it changes.
LINE = re.compile(r"\] +(\S+) +- \[.*?type = +(\w+), size = .*?(?:\((\w+)\))?\n")


def quantize(log, source, target, kind, pure):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread, params.pure, params.dry_run = TYPES[kind], True, 1, pure, True
    log.clear()
    assert llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) == 0, (source, kind)
    formats = {name: (new or old).upper() for name, old, new in LINE.findall("".join(log))}
    matrices = [format for name, format in formats.items() if name.endswith("weight") and "norm" not in name]
    base = Counter(matrices).most_common(1)[0][0]
    others = {}
    for name, format in sorted(formats.items()):
        if format != base:
            others.setdefault(format, []).append(name)
    return {"base": base, **{format: " ".join(names) for format, names in sorted(others.items())}}


def main():
    llama_cpp.llama_backend_init()
    log = []
    listener = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode()))
    llama_cpp.llama_log_set(listener, None)
    mixes = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in.gguf"), os.path.join(folder, "out.gguf")
        for name, model in MODELS.items():
            synth(sys.argv[1], source, model)
            types = {kind: quantize(log, source, target, kind, False) for kind in TYPES}
            types.update({kind + " pure": quantize(log, source, target, kind, True) for kind in PURE})
            mixes[name] = {"model": model, "types": types}
            os.remove(source)
    here = os.path.dirname(os.path.abspath(__file__))
    text = json.dumps(mixes, separators=(",", ":")) + "\n"
    with open(os.path.join(here, "mixes.json.gz"), "wb") as file:
        file.write(gzip.compress(text.encode(), 9, mtime=0))


main()
