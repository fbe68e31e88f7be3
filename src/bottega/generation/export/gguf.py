"""A transformer as one GGUF file, which llama.cpp and Ollama read. `bottega export MODEL --to gguf -o FOLDER`

What differs from our own folder: names of tensors; Llama and Mistral pair neighbouring values of a head for the rotary
angles where we pair halves, so rows of query and key are reordered; Gemma's norms are stored with their 1 added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bottega.core.errors import InputError, MissingExtraError, suggest
from bottega.core.files import atomic_dir, write_atomic
from bottega.families.rope import frequencies
from bottega.families.transformer import Transformer
from bottega.families.transformer_config import TransformerConfig
from bottega.generation.export.folder import Exported, papers
from bottega.generation.export.vocabulary import add_vocabulary

FILE = "model.gguf"
DTYPES = ("f32", "f16", "q8_0")
_LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
          "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
          "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
          "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_OTHER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_library() -> Any:
    """Return the `gguf` package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError("gguf", "a GGUF file") from error
    return gguf


def check(config: TransformerConfig, dtype: str) -> list[str]:
    """Return what a reader of the file should know.

    Raises:
        InputError: llama.cpp has no such part, or there is no such dtype.
    """
    if dtype not in DTYPES:
        raise InputError(f"weights of a GGUF file cannot be {dtype}", where="--dtype", fix=suggest(dtype, DTYPES))
    kind, scaling = config.architecture, config.rope_scaling
    llama = kind in ("llama", "mistral")
    parts = {
        "attention_bias": (config.out_bias and not llama) or (config.qkv_bias and kind == "gemma"),
        f"scaling of rotary positions {scaling.rope_type if scaling else ''}":
            scaling is not None and ((scaling.rope_type == "llama3" and not llama) or not scaling.truncate),
        "head_dim other than width / heads": kind == "qwen2" and config.heads * config.head_dim != config.width,
        f"activation {config.activation}": (config.activation == "gelu_tanh") != (kind == "gemma"),
        "output matrix of its own": kind == "gemma" and not config.tied}
    for name, wrong in parts.items():
        if wrong:
            raise InputError(f"llama.cpp's {kind} has no {name}", fix="export with --to hf")
    if config.window is not None and config.window < config.context:
        return [f"llama.cpp reads no window in a {kind}: the file's context is the window, {config.window} tokens "
                f"instead of {config.context}; within it the texts are the same"]
    return []


def export_gguf(whole: Exported, target: Path, dtype: str = "f16") -> list[str]:
    """Write a folder with `model.gguf`, the card and the licence, and return what a reader should know.

    Args:
        whole: the model.
        target: folder, which must not be there.
        dtype: of the matrices: `f32`, `f16` or `q8_0` (8 bits and one half-precision scale for 32 weights).

    Raises:
        InputError: llama.cpp lacks a part, or would cut text otherwise.
        MissingExtraError: the `gguf` package is not installed.
    """
    notes = check(whole.generator.config, dtype)
    gguf_library()
    with atomic_dir(target) as folder:
        notes += write_gguf(whole, folder / FILE, dtype)
        papers(whole.bundle, folder)
    return notes


def write_gguf(whole: Exported, path: Path, dtype: str) -> list[str]:
    """Write one file and return what a reader should know; see `export_gguf`."""
    gguf, config, notes = gguf_library(), whole.generator.config, list[str]()
    kind = "llama" if config.architecture == "mistral" else config.architecture

    def write(temporary: Path) -> None:
        writer = gguf.GGUFWriter(temporary, kind)
        _add_shape(writer, gguf, whole, dtype)
        notes.extend(add_vocabulary(writer, whole.codec, config.vocab_size))
        for name, values in _tensors(whole.generator):
            narrow = _narrow(values, dtype)
            form = gguf.GGMLQuantizationType[narrow.upper()]
            writer.add_tensor(name, gguf.quantize(values, form), raw_dtype=form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_atomic(path, write)
    return notes


def _add_shape(writer: Any, gguf: Any, whole: Exported, dtype: str) -> None:
    """Write what config.json says."""
    config = whole.generator.config
    writer.add_name(whole.bundle.name)
    licences = [licence.spdx for licence in whole.bundle.lineage.licences]
    if licences:
        writer.add_license(" AND ".join(sorted(set(licences))))
    writer.add_file_type({"f32": 0, "f16": 1, "q8_0": 7}[dtype])
    narrow = any(config.windowed(layer) for layer in range(config.depth))
    writer.add_context_length(min(config.context, config.window or config.context) if narrow else config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.depth)
    writer.add_feed_forward_length(config.intermediate)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
    if scaling is not None and scaling.rope_type == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling.factor)
        writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
        usual = 0.1 * np.log(scaling.factor) + 1.0  # llama.cpp multiplies by this itself
        writer.add_rope_scaling_attn_factors(float(scaling.amplitude / usual))
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)


def _tensors(generator: Transformer) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return names and fp32 values as llama.cpp wants them."""
    config, found = generator.config, list[tuple[str, np.ndarray[Any, Any]]]()
    for name, tensor in generator.state_dict().items():
        if name == "lm_head.weight" and config.tied:
            continue
        stem, _, what = name.rpartition(".")
        values: Tensor = tensor.detach().float().cpu()
        if stem in _OTHER:
            title = _OTHER[stem]
        else:
            _, _, layer, inner = stem.split(".", 3)
            title = f"blk.{layer}.{_LAYER[inner]}"
            if config.architecture in ("llama", "mistral") and inner.endswith(("q_proj", "k_proj")):
                values = _neighbours(values, config.head_dim)
        if config.gemma and title.endswith("norm"):
            values = values + 1.0
        found.append((f"{title}.{what}", np.ascontiguousarray(values.numpy())))
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "llama3":
        device = torch.device("cpu")
        plain, slow = (frequencies(config.head_dim, config.rope_theta, how, device) for how in (None, scaling))
        found.append(("rope_freqs.weight", (plain / slow).numpy()))
    return found


def _neighbours(rows: Tensor, head_dim: int) -> Tensor:
    """Reorder rows [heads · head_dim, ...]: what stood at i and i + head_dim / 2 of a head become neighbours."""
    heads = rows.view(-1, 2, head_dim // 2, *rows.shape[1:])
    return heads.transpose(1, 2).reshape(rows.shape)


def _narrow(values: np.ndarray[Any, Any], dtype: str) -> str:
    """Return the form of one tensor: vectors stay fp32, and rows that blocks of 32 do not divide half precision."""
    if values.ndim < 2:
        return "f32"
    return "f16" if dtype == "q8_0" and values.shape[-1] % 32 else dtype
