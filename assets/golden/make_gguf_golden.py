"""Writes small GGUF files with the `gguf` package, and what its reader finds in them.

    python assets/golden/make_gguf_golden.py        # from the repository root; needs gguf 0.19 and numpy

For each FILE.gguf, writes FILE.gguf.json beside it:
  version, alignment
  fields   [key, types, value]: `types` as the reader lists them, outermost first, such as ["ARRAY", "STRING"]; values
           of nested arrays are flattened, as by the reader; floats are given by their bits as integers
  tensors  [name, type, shape (innermost first), offset in the file, bytes, CRC-32 of the bytes]
  nested   the structure of nested arrays as passed to the writer, because the reader does not keep it
The dumps of the models in tiny/ are written to gguf/ too.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

GOLDEN = Path(__file__).parent
OUT = GOLDEN / "gguf"
FLOATS = {"FLOAT32": ("<f", "<I"), "FLOAT64": ("<d", "<Q")}


def bits(kind, value):
    if kind not in FLOATS:
        return value
    if isinstance(value, list):
        return [bits(kind, v) for v in value]
    of, to = FLOATS[kind]
    return struct.unpack(to, struct.pack(of, value))[0]


def dump(path, nested=None):
    reader = GGUFReader(path)
    fields = []
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        types = [t.name for t in field.types]
        fields.append([key, types, bits(types[-1], field.contents())])
    tensors = []
    for t in reader.tensors:
        data = t.data.tobytes()
        assert len(data) == t.n_bytes
        shape = [int(d) for d in t.shape]
        tensors.append([t.name, t.tensor_type.name, shape, t.data_offset, t.n_bytes, zlib.crc32(data)])
    out = {
        "version": int(reader.fields["GGUF.version"].contents()),
        "alignment": int(reader.alignment),
        "fields": fields,
        "tensors": tensors,
        "nested": nested or {},
    }
    (OUT / (path.name + ".json")).write_text(json.dumps(out, indent=0, ensure_ascii=False) + "\n")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


NESTED = {
    "nested.numbers": [[1, 2, 3], [4], [5, 6]],
    "nested.strings": [["a", "bc"], ["", "ü"]],
    "nested.deep": [[[[True, False]], [[True]]], [[[False]]]],
}


def add_every_type(writer):
    writer.add_string("text.plain", "Weft")
    writer.add_string("text.utf8", "naïve 織物 🧵 \0 end")
    writer.add_key_value("text.empty", "", GGUFValueType.STRING)
    limits = {"UINT": lambda b: (0, 2**b - 1), "INT": lambda b: (-(2 ** (b - 1)), 2 ** (b - 1) - 1)}
    for sign, limit in limits.items():
        for width in (8, 16, 32, 64):
            kind = GGUFValueType[f"{sign}{width}"]
            low, high = limit(width)
            writer.add_key_value(f"number.{kind.name}.low", low, kind)
            writer.add_key_value(f"number.{kind.name}.high", high, kind)
            writer.add_key_value(f"array.{kind.name}", [low, 1, 7, high], GGUFValueType.ARRAY, kind)
    f32 = [0.0, -0.0, 1.5, 3.4028234663852886e38, 1e-45, float("inf"), float("-inf")]
    f64 = [0.1, -2.5e300, 5e-324, float("inf")]
    for kind, values in ((GGUFValueType.FLOAT32, f32), (GGUFValueType.FLOAT64, f64)):
        for i, value in enumerate(values):
            writer.add_key_value(f"number.{kind.name}.{i}", value, kind)
        writer.add_key_value(f"array.{kind.name}", values, GGUFValueType.ARRAY, kind)
    writer.add_bool("truth.yes", True)
    writer.add_bool("truth.no", False)
    writer.add_array("array.BOOL", [True, False, True, True])
    writer.add_array("array.STRING", ["", "a", "▁the", "<0x0A>", "🧵" * 40, "\n"])
    for key, value in NESTED.items():
        writer.add_array(key, value)


def add_tensors(writer, rng, count=None):
    shapes = {
        "one": ((1,), Q.F32),
        "vector": ((7,), Q.F16),
        "matrix": ((3, 64), Q.Q4_0),
        "cube": ((2, 3, 256), Q.Q4_K),
        "four": ((2, 1, 3, 32), Q.Q8_0),
        "bytes": ((5,), Q.I8),
        "doubles": ((2, 3), Q.F64),
        "ternary": ((2, 256), Q.TQ2_0),
        "brain": ((4, 6), Q.BF16),
    }
    for name, (shape, kind) in list(shapes.items())[:count]:
        block, size = GGML_QUANT_SIZES[kind]
        data = rng.integers(0, 256, (*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)


def main():
    OUT.mkdir(exist_ok=True)
    rng = np.random.default_rng(20)

    path = OUT / "types-v3.gguf"
    writer = GGUFWriter(path, "golden")
    add_every_type(writer)
    add_tensors(writer, rng)
    finish(writer)
    dump(path, NESTED)
    # Little-endian files of the two versions differ in the version word only.
    v2 = OUT / "types-v2.gguf"
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", 2)
    v2.write_bytes(data)
    dump(v2, NESTED)

    for alignment in (8, 64, 4096):
        path = OUT / f"align-{alignment}.gguf"
        writer = GGUFWriter(path, "golden")
        writer.add_custom_alignment(alignment)
        add_tensors(writer, rng, 5)
        finish(writer)
        dump(path)

    path = OUT / "vocab-only.gguf"
    writer = GGUFWriter(path, "golden")
    writer.add_token_list([f"token{i}" for i in range(50)])
    writer.add_token_scores([-float(i) for i in range(50)])
    writer.add_token_types([1] * 50)
    finish(writer)
    dump(path)

    path = OUT / "split.gguf"
    writer = GGUFWriter(path, "golden", split_max_tensors=3)
    writer.add_string("general.name", "split in three")
    add_tensors(writer, rng, 8)
    finish(writer)
    for i in (1, 2, 3):
        dump(OUT / f"split-{i:05}-of-00003.gguf")

    path = OUT / "big-endian.gguf"
    writer = GGUFWriter(path, "golden", endianess=GGUFEndian.BIG)
    writer.add_uint32("answer", 42)
    finish(writer)

    for name in ("tiny-llama", "tiny-llama31", "tiny-mistral"):
        dump(GOLDEN / "tiny" / f"{name}.gguf")


main()
