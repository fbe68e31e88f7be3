"""config.json of a transformer, read and written: Llama, Mistral, Qwen2, Qwen3 and Gemma. `bottega import` reads one.

    llama     biases of attention and MLP on or off           gemma   norms less 1, scaled embeddings, GeGLU
    mistral   a window in every layer, or none                qwen2   biases of query, key and value; a window in some
    qwen3     norms of query and key heads; a window in some layers

Whatever else a config.json asks for is refused by name: a model must not be read as something that it is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import read_json
from bottega.core.validate import validate
from bottega.families.transformer_config import TransformerConfig

ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
                 "qwen2": "Qwen2ForCausalLM", "gemma": "GemmaForCausalLM"}
GENERATION = "generation_config.json"
_SCALED = ("linear", "dynamic", "llama3", "yarn")
_PLAIN = ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "mscale",
          "mscale_all_dim", "truncate")
_HEAD_DIMS = {"qwen3": 128, "gemma": 256}  # where config.json names none; else width / heads


def token_ids(special: dict[str, int]) -> dict[str, Any]:
    """Return bos, eos and pad ids as generation needs them: both the turn's end and the document's end stop it."""
    stops = [number for name, number in special.items() if name.startswith("end")]
    stops = [*dict.fromkeys([*stops, *([special["eos"]] if "eos" in special else [])])]
    ids: dict[str, Any] = {f"{name}_token_id": special[name] for name in ("bos", "pad") if name in special}
    return {**ids, "eos_token_id": stops} if stops else ids


def generation_config(special: dict[str, int]) -> dict[str, Any]:
    """Return generation_config.json."""
    return {**token_ids(special), "do_sample": True}


def read_generation(folder: Path) -> dict[str, Any]:
    """Return what generation_config.json says, nothing where there is none.

    Raises:
        CorruptError: it is not a JSON object.
    """
    if not (folder / GENERATION).is_file():
        return {}
    found = read_json(folder / GENERATION)
    if not isinstance(found, dict):
        raise CorruptError(f"{folder / GENERATION} is not a JSON object", fix="restore or delete it")
    return found


def hf_config(config: TransformerConfig, dtype: str) -> dict[str, Any]:
    """Return config.json of the architecture that the parts make.

    Both spellings of the rotary base and of the dtype are written: `rope_theta` and `torch_dtype` are read by
    transformers 4, vLLM and GGUF writers, `rope_parameters` and `dtype` by transformers 5.
    """
    kind = config.architecture
    eos = {"eos_token_id": config.special["eos"]} if "eos" in config.special else {}
    scaling = _rope(config)
    windowed = [config.windowed(layer) for layer in range(config.depth)]
    window: dict[str, Any] = {"use_sliding_window": False, "sliding_window": None}
    if any(windowed):
        window = {"use_sliding_window": True, "sliding_window": config.window}
        if kind != "mistral":
            window |= {"max_window_layers": windowed.index(True), "layer_types": [
                "sliding_attention" if narrow else "full_attention" for narrow in windowed]}
    activation = "silu" if config.activation == "silu" else "gelu_pytorch_tanh"
    return {
        "architectures": [ARCHITECTURES[kind]], "model_type": kind, "vocab_size": config.vocab_size,
        "hidden_size": config.width, "intermediate_size": config.intermediate, "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim,
        "hidden_act": activation, **({"hidden_activation": activation} if kind == "gemma" else {}),
        "max_position_embeddings": config.context, "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta, "rope_scaling": scaling,
        "rope_parameters": {**(scaling or {"rope_type": "default"}), "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied, "attention_bias": config.out_bias, "mlp_bias": config.mlp_bias,
        "attention_dropout": 0.0, **window, "use_cache": True, "initializer_range": 0.02,
        "dtype": dtype, "torch_dtype": dtype, **token_ids(config.special), **eos,
        "bottega": {"special": config.special},
    }


def _rope(config: TransformerConfig) -> dict[str, Any] | None:
    """Return `rope_scaling`, None where the angles are not stretched."""
    scaling = config.rope_scaling
    if scaling is None:
        return None
    used = {"linear": (), "dynamic": (), "llama3": _PLAIN[:2], "yarn": _PLAIN[2:]}[scaling.rope_type]
    values = {name: getattr(scaling, name) for name in used}
    original = {"original_max_position_embeddings": scaling.original_context} if scaling.original_context else {}
    return {"rope_type": scaling.rope_type, "factor": scaling.factor, **original,
            **{name: value for name, value in values.items() if value not in (None, 0.0) or name == "truncate"}}


def lacking(data: dict[str, Any]) -> str:
    """Return what a config.json asks for that the transformer family lacks, "" where it lacks nothing."""
    kind = data.get("model_type")
    rope = _rope_of(data)
    act = data.get("hidden_activation") or data.get("hidden_act", "silu")
    known = ("gelu", "gelu_pytorch_tanh", "silu") if kind == "gemma" else ("silu", "gelu_pytorch_tanh")
    parts = {
        f"model_type {kind}": kind not in ARCHITECTURES,
        f"hidden_act {act}": act not in known,
        f"scaled rotary positions {rope}": rope.get("rope_type", "default") not in ("default", *_SCALED),
        "partial rotary positions": rope.get("partial_rotary_factor", data.get("partial_rotary_factor", 1.0)) != 1.0,
        "quantised weights": data.get("quantization_config") is not None,
        "mlp_bias": bool(data.get("mlp_bias")) and kind != "llama",
    }
    return next((name for name, wrong in parts.items() if wrong), "")


def _rope_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary settings under one spelling, whichever of two config.json has."""
    rope = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    return rope


def config_from_hf(data: dict[str, Any], where: str, generation: dict[str, Any] | None = None) -> TransformerConfig:
    """Read config.json of a published model or of ours.

    Args:
        data: its content.
        where: the folder, for messages.
        generation: content of generation_config.json, which may name more tokens that end an output.

    Raises:
        InputError: another architecture, or a part that this one lacks; the message names it.
        CorruptError: a value is missing or out of range.
    """
    if wrong := lacking(data):
        raise InputError(f"the transformer family has no {wrong}", where=where,
                         fix="import it with --backend transformers, which runs it as it is")
    kind = str(data["model_type"])
    try:
        heads, rope = data["num_attention_heads"], _rope_of(data)
        windowed = _window_layers(data, kind, int(data["num_hidden_layers"]))
        act = data.get("hidden_activation") or data.get("hidden_act", "silu")
        config = validate(TransformerConfig, {
            "vocab_size": data["vocab_size"], "context": data["max_position_embeddings"],
            "depth": data["num_hidden_layers"], "width": data["hidden_size"], "heads": heads,
            "head_dim": data.get("head_dim") or _HEAD_DIMS.get(kind) or data["hidden_size"] // heads,
            "kv_heads": data.get("num_key_value_heads") or heads, "intermediate": data["intermediate_size"],
            "rope_theta": rope.get("rope_theta") or data.get("rope_theta") or 10_000.0,
            "norm_eps": data.get("rms_norm_eps", 1e-6), "qk_norm": kind == "qwen3",
            "tied": bool(data.get("tie_word_embeddings", kind == "gemma")),
            "special": _special(data, generation or {}), "rope_scaling": _scaling(rope, data),
            "qkv_bias": kind == "qwen2" or (bool(data.get("attention_bias")) and kind != "mistral"),
            "out_bias": bool(data.get("attention_bias")) and kind not in ("qwen2", "mistral"),
            "mlp_bias": bool(data.get("mlp_bias")), "window": data.get("sliding_window") if windowed else None,
            "window_layers": windowed if 0 < len(windowed) < data["num_hidden_layers"] else None,
            "activation": "silu" if kind != "gemma" and act == "silu" else "gelu_tanh",
            "gemma": kind == "gemma", "layout": kind,
        }, where=where, error=CorruptError)
        return config.model_copy(update={"layout": None}) if config.layouts()[0] == kind else config
    except KeyError as missing:
        raise CorruptError(f"config.json has no {missing}", where=where, fix="restore it") from None


def _window_layers(data: dict[str, Any], kind: str, depth: int) -> list[int]:
    """Return the layers that look back over a window only."""
    window = data.get("sliding_window")
    if not window or kind not in ("mistral", "qwen2", "qwen3") or \
            (kind != "mistral" and not data.get("use_sliding_window")):
        return []
    if kind == "mistral":
        return list(range(depth))
    types = data.get("layer_types")
    if types is None:
        return list(range(data.get("max_window_layers", 28), depth))
    return [layer for layer, name in enumerate(types) if name == "sliding_attention"]


def _scaling(rope: dict[str, Any], data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rotary settings as `rope.Scaling` reads them."""
    if rope["rope_type"] == "default":
        return None
    original = rope.get("original_max_position_embeddings") or data.get("original_max_position_embeddings") or \
        data["max_position_embeddings"]
    factor = rope.get("factor") or data["max_position_embeddings"] / original
    given = {name: rope[name] for name in _PLAIN if rope.get(name) is not None}
    return {"rope_type": rope["rope_type"], "factor": factor, "original_context": original, **given}


def _special(data: dict[str, Any], generation: dict[str, Any]) -> dict[str, int]:
    """Return the reserved tokens by name; tokens that end an output beside eos are `end`, `end_2` …"""
    ours = (data.get("bottega") or {}).get("special")
    if ours is not None:
        return dict(ours)
    named = {name: generation.get(f"{name}_token_id", data.get(f"{name}_token_id")) for name in ("bos", "pad")}
    special = {name: value for name, value in named.items() if isinstance(value, int)}
    found: list[Any] = []
    for source in (data, generation):
        value = source.get("eos_token_id")
        found += value if isinstance(value, list) else [value]
    ends = [*dict.fromkeys(number for number in found if isinstance(number, int))]
    names = ("eos", "end", *(f"end_{count}" for count in range(2, len(ends))))
    return {**special, **dict(zip(names, ends, strict=False))}
