#!/usr/bin/env python3
"""Makes LoRA adapters with random matrices, and the logits with them from Hugging Face PEFT.

pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0
python make.py

The base models are those of ../hf. Their GGUF files are read back into transformers, with rows of Q and K of `llama` permuted
back to Hugging Face's order, and the plain model must give the logits recorded in ../hf. NAME/ is the folder that PEFT saves,
NAME.gguf the same adapter as llama.cpp's convert_lora_to_gguf.py names and permutes it. Logits are computed in F32 with eager
attention. NAME.json has
base             the model, ../hf/BASE.gguf; its prompt and positions are those of ../hf/BASE.json
logits           rows at those positions, seven digits
half             the same with the adapter's scale halved
largest          the largest absolute value of `logits`
moved            their distance from the plain model's logits, relative to the largest
made_with        versions
"""
import json, shutil, zlib
from pathlib import Path

import gguf, numpy, peft, torch, transformers
from peft import LoraConfig, get_peft_model

HERE = Path(__file__).resolve().parent
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

# name: (base, format of the GGUF file, true if alpha is divided by the root of the rank, PEFT's settings)
ADAPTERS = {
    "llama-all": ("llama", "F32", dict(r=4, lora_alpha=8, rank_pattern={"down_proj": 2, "layers.1.self_attn.v_proj": 7},
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"])),
    "llama-qv": ("llama", "F16", dict(r=8, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj"])),
    "qwen2-some": ("qwen2", "F16", dict(r=3, lora_alpha=4, target_modules=["q_proj", "k_proj", "up_proj"])),
    "phi3-all": ("phi3", "F32", dict(r=5, lora_alpha=10, target_modules="all-linear")),
}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
ENDS = {"lm_head": "output", "model.embed_tokens": "token_embd", "model.norm": "output_norm"}


def gguf_name(module):
    if module in ENDS:
        return ENDS[module]
    layer, rest = module.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[rest]}"


def heads_of(config, module):
    return {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(module.split(".")[-1])


def permuted(rows, heads):
    """Permutes a head's rows from two halves to neighbouring pairs, the order of `llama` files."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermuted(rows, heads):
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def base_model(name):
    reader = gguf.GGUFReader(HERE / f"../hf/{name}.gguf")
    arch = reader.fields["general.architecture"].contents()
    field = lambda key: reader.fields[f"{arch}.{key}"].contents()
    kind = {"llama": "Llama", "qwen2": "Qwen2", "phi3": "Phi3"}[name]
    config = getattr(transformers, f"{kind}Config")(vocab_size=128, hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"), num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"), num_key_value_heads=field("attention.head_count_kv"),
        max_position_embeddings=field("context_length"), rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters=dict(rope_type="default", rope_theta=field("rope.freq_base")), tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            module, suffix = key.rsplit(".", 1)
            values = numpy.array(tensors[f"{gguf_name(module)}.{suffix}"].data, dtype=numpy.float32)
            if arch == "llama" and heads_of(config, module):
                values = unpermuted(values, heads_of(config, module))
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    return model


def run(model, tokens, positions):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()[positions]


def fill(model, name):
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{name} {key}".encode())))
                size = 0.7 / parameter.shape[1] ** 0.5 if "lora_A" in key else 0.25
                parameter.copy_((noise * size).half().float())


def write_gguf(model, name, base, kind, settings):
    config = model.config
    writer = gguf.GGUFWriter(HERE / f"{name}.gguf", base)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # The file has one alpha, which is divided by each tensor's rank.
    by_root = settings.get("use_rslora", False)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, settings["lora_alpha"] * (settings["r"] ** 0.5 if by_root else 1.0))
    for key, parameter in model.named_parameters():
        if "lora_" not in key:
            continue
        module, half = key.removeprefix("base_model.model.").split(".lora_")
        values = parameter.detach().numpy()
        if half.startswith("B") and base == "llama" and heads_of(config, module):
            values = permuted(values, heads_of(config, module))
        values = values.astype(numpy.float16 if kind == "F16" else numpy.float32)
        writer.add_tensor(f"{gguf_name(module)}.weight.lora_{half[0].lower()}", numpy.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def digits(rows):
    return [[float(f"{x:.7g}") for x in row.tolist()] for row in rows]


def make(name):
    base, kind, settings = ADAPTERS[name]
    reference = json.loads((HERE / f"../hf/{base}.json").read_text())
    tokens, positions = reference["tokens"], reference["logit_positions"]
    model = base_model(base)
    plain = run(model, tokens, positions)
    off = float((plain - torch.tensor(reference["logits"])).abs().max()) / reference["largest"]
    assert off < 1e-5, f"{base}: the plain model is {off} off"
    model = get_peft_model(model, LoraConfig(**settings, task_type="CAUSAL_LM")).eval()
    fill(model, name)
    shutil.rmtree(HERE / name, ignore_errors=True)
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink()
    config = HERE / name / "adapter_config.json"
    saved = json.loads(config.read_text())
    # It is a set, whose order differs between runs.
    config.write_text(json.dumps(saved | dict(target_modules=sorted(saved["target_modules"])), indent=2) + "\n")
    (HERE / name / "adapter_model.safetensors").chmod(0o644)
    write_gguf(model, name, base, kind, settings)
    logits = run(model, tokens, positions)
    layers = [layer for layer in model.modules() if hasattr(layer, "scale_layer")]
    for layer in layers:
        layer.scale_layer(0.5)
    half = run(model, tokens, positions)
    largest = float(logits.abs().max())
    moved = float((logits - plain).abs().max()) / largest
    result = dict(base=base, logits=digits(logits), half=digits(half), largest=float(f"{largest:.7g}"), moved=float(f"{moved:.2g}"),
        made_with=dict(peft=peft.__version__, transformers=transformers.__version__, torch=torch.__version__.partition("+")[0]))
    (HERE / f"{name}.json").write_text(json.dumps(result) + "\n")
    print(f"{name}: {len(layers)} layers, largest {largest:.3g}, moved {moved:.2g}", flush=True)
    assert 0.1 < moved, f"{name} would not be noticed"


for name in ADAPTERS:
    make(name)
