"""Compares how fast Weft and llama.cpp tokenize the same texts with the same vocabularies.

    cargo build --release -p weft-formats --example tokenizers
    pip install llama-cpp-python==0.3.36
    python benches/tokenizers.py target/release/examples/tokenizers VOCABULARY.gguf ... -- NAME=TEXT.txt ...

Prints a table: megabytes per second of each, as medians of three pairs of runs in turn, and the ratio of the medians. Both
must produce the same number of tokens.
"""
import pathlib, statistics, subprocess, sys, time
import llama_cpp

def peer(model, text):
    begin, times = time.perf_counter(), []
    while len(times) < 2 or time.perf_counter() - begin < 2:
        start = time.perf_counter()
        tokens = len(model.tokenize(text, add_bos=False, special=False))
        times.append(time.perf_counter() - start)
    return tokens, len(text) / 1e6 / statistics.median(times)

def main(program, *arguments):
    split = arguments.index("--")
    print("| vocabulary | text | Weft, MB/s | llama.cpp, MB/s | ratio |\n|---|---|---:|---:|---:|")
    for vocabulary in arguments[:split]:
        model = llama_cpp.Llama(vocabulary, vocab_only=True, verbose=False)
        for argument in arguments[split + 1:]:
            name, path = argument.split("=")
            ours, theirs = [], []
            for _ in range(3):
                out = subprocess.run([program, vocabulary, path], capture_output=True, text=True, check=True).stdout.split()
                ours.append(float(out[-2]))
                tokens, speed = peer(model, pathlib.Path(path).read_bytes())
                theirs.append(speed)
                if tokens != int(out[-4]):
                    sys.exit(f"{vocabulary} {name}: {out[-4]} tokens, llama.cpp has {tokens}")
            ours, theirs = statistics.median(ours), statistics.median(theirs)
            print(f"| {pathlib.Path(vocabulary).stem} | {name} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.1f} |", flush=True)

main(*sys.argv[1:])
