"""Compares `weft quantize` with llama.cpp's quantizer on a model: seconds, and the perplexity of a text.

    cargo build --release -p weft-cli
    pip install llama-cpp-python==0.3.36 numpy
    python benches/quantize.py target/release/weft MODEL-F16.gguf TEXT [TYPE ...]

Prints a table. "In llama.cpp" is llama.cpp's perplexity with Weft's file, which should equal Weft's. The last column is the
perplexity of llama.cpp's own file, computed by Weft; that of Weft's file should not be higher. Both use all cores.
"""
import ctypes, json, os, pathlib, subprocess, sys, tempfile, time
from llama_cpp import llama_cpp

# llama.cpp's numbers for its mixes, `enum llama_ftype`.
TYPES = {
    "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q8_0": 7, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14,
    "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "tq1_0": 36, "tq2_0": 37,
}
PEER_PERPLEXITY = pathlib.Path(__file__).with_name("perplexity.py")

def ours(weft, model, text):
    out = subprocess.run([weft, "perplexity", "--model", model, "--file", text, "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["perplexity"]

def theirs(model, text):
    out = subprocess.run([sys.executable, PEER_PERPLEXITY, model, text], capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])["perplexity"]

def quantize_in_llama_cpp(source, target, ftype):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = ftype, os.cpu_count()
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp could not quantize {source}")

@llama_cpp.llama_log_callback
def silent(level, text, user_data):
    pass

def main(weft, source, text, *types):
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    print("| type | Weft, s | llama.cpp, s | Weft's file | in llama.cpp | llama.cpp's file |\n|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        made, peer = f"{folder}/weft.gguf", f"{folder}/llama.gguf"
        for name in types or TYPES:
            start = time.perf_counter()
            subprocess.run([weft, "quantize", source, made, "--type", name, "--force"], capture_output=True, check=True)
            between = time.perf_counter()
            quantize_in_llama_cpp(source, peer, TYPES[name])
            end = time.perf_counter()
            row = [ours(weft, made, text), theirs(made, text), ours(weft, peer, text)]
            seconds = f"{between - start:.1f} | {end - between:.1f}"
            print(f"| {name.upper()} | {seconds} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)

main(*sys.argv[1:])
