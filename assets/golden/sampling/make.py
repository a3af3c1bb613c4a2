"""Makes cases.json.gz: the tokens that llama.cpp's sampler chain keeps for given logits.

    pip install llama-cpp-python==0.3.36 numpy
    python make.py

Logits are integers over 65536 (exact in f32), without ties. For each case the chain is logit bias, penalties, top-k,
typical, top-p, min-p, temperature, applied by `llama_sampler_apply`. The softmax of the surviving logits is computed in f64
here, so that the file does not contain the rounding of llama.cpp's f32 sum.
"""
import ctypes
import gzip
import json
import math

import llama_cpp as L
import numpy as np

SCALE = 65536
# Maximum survivors listed per case, by lowest id. All are covered by the count, the sum of ids and the sum of their squares.
SHOWN = 200
rng = np.random.default_rng(20_240_601)


def unique(values):
    """Rounds to the grid and moves ties apart."""
    seen, out = set(), []
    for value in values:
        number = int(round(float(value) * SCALE))
        while number in seen:
            number += 1
        seen.add(number)
        out.append(number)
    return out


VECTORS = {
    "eight": unique([0.5, -1.25, 3.0, 2.75, -4.0, 1.0, 0.0, 2.0]),
    "small": unique(rng.normal(-2, 3, 300)),
    "model": unique(np.concatenate([rng.normal(-4, 2.5, 4980), rng.uniform(6, 14, 20)])[rng.permutation(5000)]),
    # It must not be flatter: llama.cpp sums the entropy in f32, whose rounding over 5000 nearly equal tokens would
    # decide which of them typical sampling keeps.
    "flat": unique(rng.normal(0, 0.3, 5000)),
    "peaked": unique(np.concatenate([[25.0], rng.normal(-3, 2, 4999)])[rng.permutation(5000)]),
}
DEFAULT = dict(bias=[], history=[], last_n=64, repetition=1.0, presence=0.0, frequency=0.0, top_k=0, typical=1.0,
               top_p=1.0, min_p=0.0, temperature=1.0)


def settings(n):
    """The settings for a vector of n logits."""
    history = [int(i) for i in rng.integers(0, n, 90)] + [2, 2, 2, 5, 5, 7]
    yield {}
    for k in [1, 2, 5, 40, 129, 1000]:
        yield dict(top_k=k)
    for p in [0.0, 0.05, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999]:
        yield dict(top_p=p)
    for p in [0.001, 0.02, 0.05, 0.1, 0.5, 0.9, 1.0]:
        yield dict(min_p=p)
    for p in [0.05, 0.2, 0.5, 0.9, 0.99]:
        yield dict(typical=p)
    for t in [0.0, 0.3, 0.7, 1.5, 10.0]:
        yield dict(temperature=t)
    for last_n in [1, 4, 64, 1000]:
        yield dict(history=history, last_n=last_n, repetition=1.3, top_k=50)
    yield dict(history=history, frequency=0.4, top_p=0.9)
    yield dict(history=history, presence=1.5, top_p=0.9)
    yield dict(history=history, presence=-0.5, frequency=-0.2, min_p=0.05)
    yield dict(history=history, repetition=1.1, presence=0.3, frequency=0.2, temperature=0.0)
    yield dict(history=history, last_n=0, repetition=1.5, top_k=10)
    yield dict(bias=[[0, 4.0], [3, -6.5], [7, 1.25]], top_k=20)
    yield dict(bias=[[2, "-inf"]], top_p=0.7)
    yield dict(bias=[[1, 2.0], [2, 30.0]], history=history, repetition=1.2, min_p=0.01)
    yield dict(top_k=40, top_p=0.95, min_p=0.05, temperature=0.8)
    yield dict(top_k=100, typical=0.7, top_p=0.9, min_p=0.02, temperature=0.6)
    yield dict(typical=0.9, top_p=0.8, temperature=1.2)
    yield dict(typical=0.3, temperature=0.0)
    yield dict(typical=0.95, min_p=0.1)
    yield dict(top_p=0.95, min_p=0.1, temperature=1.3)
    yield dict(top_p=0.999, min_p=0.002)
    yield dict(bias=[[4, 3.0]], history=history, repetition=1.15, presence=0.1, frequency=0.05, top_k=60, typical=0.95,
               top_p=0.92, min_p=0.03, temperature=0.9)


def run(logits, case):
    chain = L.llama_sampler_chain_init(L.llama_sampler_chain_default_params())
    add = lambda sampler: L.llama_sampler_chain_add(chain, sampler)
    bias = (L.llama_logit_bias * len(case["bias"]))()
    for slot, (token, value) in zip(bias, case["bias"]):
        slot.token, slot.bias = token, float(value)
    add(L.llama_sampler_init_logit_bias(len(logits), len(case["bias"]), bias))
    add(L.llama_sampler_init_penalties(len(logits), case["last_n"], case["repetition"], case["frequency"], case["presence"]))
    add(L.llama_sampler_init_top_k(case["top_k"]))
    add(L.llama_sampler_init_typical(case["typical"], 1))
    add(L.llama_sampler_init_top_p(case["top_p"], 1))
    add(L.llama_sampler_init_min_p(case["min_p"], 1))
    add(L.llama_sampler_init_temp(case["temperature"]))
    for token in case["history"]:
        L.llama_sampler_accept(chain, token)
    data = (L.llama_token_data * len(logits))()
    for token, logit in enumerate(logits):
        data[token].id, data[token].logit, data[token].p = token, logit / SCALE, 0.0
    array = L.llama_token_data_array(data, len(logits), -1, False)
    L.llama_sampler_apply(chain, ctypes.byref(array))
    left = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
    L.llama_sampler_free(chain)
    left = sorted((token, logit) for token, logit in left if logit > -math.inf)
    values = np.array([logit for _, logit in left], dtype=np.float64)
    weights = np.exp(values - values.max())
    probabilities = weights / weights.sum()
    tokens = [token for token, _ in left]
    return {
        "count": len(tokens), "sum": sum(tokens), "squares": sum(token * token for token in tokens),
        "tokens": tokens[:SHOWN], "probabilities": [float(f"{p:.7e}") for p in probabilities[:SHOWN]],
    }


vectors = []
for name, logits in VECTORS.items():
    cases = []
    for changed in settings(len(logits)):
        case = {**DEFAULT, **changed}
        case["bias"] = [[token, value] for token, value in case["bias"] if token < len(logits)]
        case["history"] = [token for token in case["history"] if token < len(logits)]
        cases.append({**case, **run(logits, case)})
    vectors.append({"name": name, "logits_65536ths": logits, "cases": cases})
body = {"made_with": f"llama-cpp-python {L.__version__}", "vectors": vectors}
with open("cases.json.gz", "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
    file.write(json.dumps(body, separators=(",", ":")).encode())
print({v["name"]: [c["count"] for c in v["cases"]] for v in vectors})
