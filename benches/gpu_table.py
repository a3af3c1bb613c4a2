#!/usr/bin/env python3
"""Time `weft bench --backend gpu` on synthetic Llama models and print the table of benches/README.md.

python3 benches/gpu_table.py [WEFT] [FOLDER]     # the command, and a folder with 15 GB free for the models

The reference is llama.cpp's CUDA build on an NVIDIA H100 (2026-11-23, flash attention on); its figures were not measured on
the machine that runs this script. Decode is 128 tokens of one session after a prompt of one; prefill is 2,048 tokens;
sessions decode together.
"""
import json, os, subprocess, sys

WEFT = sys.argv[1] if len(sys.argv) > 1 else "target/release/weft"
FOLDER = sys.argv[2] if len(sys.argv) > 2 else "/tmp"
# Preset and type; the reference's figures for decode, prefill, and 16 and 64 sessions that decode together.
CASES = [
    ("1b", "f16", (687, None, None, None)),
    ("1b", "q8_0", (776, 49_300, 5_280, 12_300)),
    ("1b", "q4_0", (954, 48_300, None, None)),
    ("1b", "q4_k_m", (887, 41_700, None, None)),
    ("8b", "q8_0", (232, 11_400, None, None)),
    ("8b", "q4_k_m", (269, 9_800, None, None)),
]


def run(*arguments):
    done = subprocess.run([WEFT, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr or done.stdout)
    return done.stdout


def cell(value, reference):
    return f"{value:,.0f}" if reference is None else f"{value:,.0f} ({value / reference:.2f} of {reference:,})"


rows, name = [], ""
for preset, kind, references in CASES:
    file = os.path.join(FOLDER, f"synth-{preset}-{kind}.gguf")
    if not os.path.exists(file):
        run("synth", file, "--preset", preset, "--type", kind)
    figures = json.loads(run("bench", "--json", "--backend", "gpu", "--model", file, "--prompt", "2048", "--generate", "128",
                             "--sessions", "16,64", "--repeat", "7"))
    gpu = figures["gpu"]
    device = gpu["devices"][0]
    name = device["adapter"]
    print(json.dumps(figures), file=sys.stderr)
    together = figures["batch_tok_s"]
    values = (figures["generate_tok_s"], figures["prompt_tok_s"], together["16"], together["64"])
    rows.append((f"{preset.upper()} {kind.upper()}", [cell(*pair) for pair in zip(values, references)], gpu))
    os.remove(file)

peaks = [gpu["devices"][0]["peak"] for *_, gpu in rows if gpu["devices"][0].get("peak")]
print(f"{name}")
if peaks:
    print(f"reads at most {max(p['gb_s'] for p in peaks):,.0f} GB/s; a dependent dispatch costs {min(p['dispatch_us'] for p in peaks):.1f} us")
print("\n| model | decode | prefill | 16 sessions | 64 sessions | decode reads | of peak | dispatches | submits |")
print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
for model, cells, gpu in rows:
    speed, share = gpu.get("decode_gb_s"), gpu.get("decode_share_of_peak")
    reads = f"{speed:,.0f} GB/s" if speed is not None else "-"
    of_peak = f"{100 * share:.0f} %" if share is not None else "-"
    print(f"| {model} | {' | '.join(cells)} | {reads} | {of_peak} | {gpu['dispatches_per_token']:.0f} "
          f"| {gpu['submits_per_token']:.1f} |")
