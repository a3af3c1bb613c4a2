"""Makes the golden data of this folder for SentencePiece, unigram and WordPiece vocabularies.

    python kinds.py ggml-vocab-llama-spm.gguf ggml-vocab-phi-3.gguf

The two files are llama.cpp's. NAME.gguf.gz: these two, and small vocabularies trained here (sentencepiece 0.2, tokenizers
0.23) on the texts of this repository. NAME.cases.json.gz: strings with llama.cpp's ids and texts for them
(llama-cpp-python); `back` is its detokenizer's text of the plain ids, if that is not the string.
"""
import ctypes, gzip, io, pathlib, sys, tempfile
import gguf, llama_cpp, sentencepiece, tokenizers
from sentencepiece import sentencepiece_model_pb2
from generate import HERE, ids, load, pieces, strings, write

TEXTS = [HERE / "../smollm2/apache-2.0.txt", HERE / "../../../LICENSE-MIT", HERE / "generate.py", HERE / "../make_gguf_golden.py"]
FOREIGN = ["Größe, Übermut und naïve Café-Gäste", "привет, мир! Ελληνικά", "你好世界。日本語のテキスト、안녕하세요", "e\u0301te\u0301 ﬁne ½ ＡＢＣ"] * 4
LINES = [line for path in TEXTS for line in path.read_text().splitlines() if line.strip()] + FOREIGN
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

def detokenize(model, tokens):
    vocab, buffer = llama_cpp.llama_model_get_vocab(model._model.model), ctypes.create_string_buffer(1 << 16)
    array = (llama_cpp.llama_token * len(tokens))(*tokens)
    n = llama_cpp.llama_detokenize(vocab, array, len(tokens), buffer, 1 << 16, False, False)
    assert n >= 0
    return buffer.raw[:n]

def cases(name, path, count, special):
    model, out = load(path), []
    for text in strings(name, special, count):
        plain, parsed = ids(model, text, False), ids(model, text, True)
        case = {"text": text, "plain": plain}
        if parsed != plain: case["parsed"] = parsed
        for key, shown in (("shown", True), ("hidden", False)):
            if pieces(model, parsed, shown) != text.encode().hex(): case[key] = pieces(model, parsed, shown)
        if detokenize(model, plain) != text.encode(): case["back"] = detokenize(model, plain).hex()
        out.append(case)
    vocab = llama_cpp.llama_model_get_vocab(model._model.model)
    eog = [i for i in range(llama_cpp.llama_vocab_n_tokens(vocab)) if llama_cpp.llama_vocab_is_eog(vocab, i)]
    write(name + ".cases.json.gz", {"end_of_generation": eog, "with_special": ids(model, "Hi", True, True),
                                    "empty": ids(model, "", True, True), "cases": out})

def pack(name, path):
    with open(HERE / (name + ".gguf.gz"), "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(pathlib.Path(path).read_bytes())

def save(name, model, tokens, scores, types, special, **keys):
    path = pathlib.Path(tempfile.mkdtemp()) / (name + ".gguf")
    writer = gguf.GGUFWriter(path, "llama" if model != "bert" else "bert")
    writer.add_tokenizer_model(model); writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens); writer.add_token_types(types)
    if scores: writer.add_token_scores(scores)
    for key, value in keys.items():
        key = "tokenizer.ggml." + key.replace("__", ".")
        if isinstance(value, bool): writer.add_bool(key, value)
        elif isinstance(value, int): writer.add_uint32(key, value)
        else: writer.add_array(key, value)
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
    pack(name, path)
    cases(name, path, 480, special)

def train(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, minloglevel=2, num_threads=1, **options)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto, [p.piece for p in proto.pieces], [p.score for p in proto.pieces], [p.type for p in proto.pieces]

def main(llama_spm, phi_3):
    for name, path, special in (("llama-spm", llama_spm, ["<s>", "</s>", "<unk>", "<0x0A>", "<0x41>"]),
                                ("phi-3", phi_3, ["<s>", "</s>", "<unk>", "<|user|>", "<|end|>", "<|assistant|>", "<|endoftext|> "])):
        pack(name, path)
        cases(name, path, 480, special)
        for ending in ("inp", "out"):
            with open(HERE / f"{name}.{ending}.gz", "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
                packed.write(pathlib.Path(f"{path}.{ending}").read_bytes())

    # SentencePiece BPE with tokens that span words, and without a space before the text.
    proto, tokens, scores, types = train(model_type="bpe", vocab_size=900, byte_fallback=True, split_by_whitespace=False,
                                         normalization_rule_name="identity", user_defined_symbols=["<tool>", "|>"])
    save("spm-across", "llama", tokens, scores, types, ["<s>", "</s>", "<tool>", "|>"], bos_token_id=1, eos_token_id=2,
         unknown_token_id=0, add_space_prefix=False, add_eos_token=True)

    # Like T5: with a normalisation table, and spaces collapsed.
    proto, tokens, scores, types = train(model_type="unigram", vocab_size=700, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                                         user_defined_symbols=["<extra_id_0>", "<ﬁ>"])
    charsmap = proto.normalizer_spec.precompiled_charsmap
    assert charsmap
    save("t5", "t5", tokens, scores, types, ["</s>", "<unk>", "<pad>", "<extra_id_0>", "<ﬁ>"], eos_token_id=1, unknown_token_id=2, padding_token_id=0,
         add_space_prefix=True, remove_extra_whitespaces=True, precompiled_charsmap=charsmap)
    # Without either.
    proto, tokens, scores, types = train(model_type="unigram", vocab_size=600, normalization_rule_name="identity",
                                         remove_extra_whitespaces=False, user_defined_symbols=["<tool>", "  "])
    save("t5-plain", "t5", tokens, scores, types, ["</s>", "<unk>", "<tool>"], bos_token_id=1, eos_token_id=2, unknown_token_id=0,
         add_space_prefix=False, remove_extra_whitespaces=False, add_bos_token=True, add_eos_token=False)

    for name, lower in (("bert", True), ("bert-cased", False)):
        trained = tokenizers.BertWordPieceTokenizer(lowercase=lower)
        trained.train_from_iterator(LINES, vocab_size=800, min_frequency=1, show_progress=False)
        found = trained.get_vocab()
        plain = sorted(found, key=found.get)
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokens = [t if t in special else t[2:] if t.startswith("##") else "▁" + t for t in plain]
        types = [CONTROL if t in special else NORMAL for t in tokens]
        keys = {} if lower else {"normalizer__lowercase": False}
        save(name, "bert", tokens, None, types, special, bos_token_id=found["[CLS]"], seperator_token_id=found["[SEP]"],
             unknown_token_id=found["[UNK]"], padding_token_id=found["[PAD]"], mask_token_id=found["[MASK]"], **keys)

if __name__ == "__main__":
    main(*sys.argv[1:])
