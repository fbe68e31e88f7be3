"""The shape of a transformer: what `depth` derives, what a recipe overrides, what an imported model brings."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bottega.core.validate import validate
from bottega.families import base
from bottega.families.config import mlp_width, pick, refuse_foreign
from bottega.families.rope import Scaling

Layout = Literal["llama", "mistral", "qwen2", "qwen3", "gemma"]  # published architectures, by their model_type


# parts of published models that ours lack; shown only where they are on
_IMPORTED = frozenset({"rope_scaling", "qkv_bias", "out_bias", "mlp_bias", "window", "window_layers", "activation",
                       "gemma", "layout"})


class TransformerConfig(base.Config):
    """Shape of a transformer.

    Attributes:
        vocab_size, context: from codec and training.
        depth: layers.
        width: residual stream; 64 x depth.
        head_dim: 64.
        heads: query heads; width / head_dim.
        kv_heads: key/value heads, a divisor of `heads`; half of them when even.
        intermediate: inner width of the MLP; 8/3 width, rounded up to a multiple of 64.
        rope_theta: base of the rotary angles; 10,000, or 1,000,000 for contexts over 4096.
        norm_eps: added under the root of RMSNorm.
        qk_norm: RMSNorm on each query and key head (Qwen3); off makes a Llama.
        tied: the output matrix is the embedding.
        special: id by name of reserved tokens (bos, eos, pad, end; end_2 … for more that end an output).
        rope_scaling: how the rotary angles are stretched for longer texts; None: they are not.
        qkv_bias, out_bias: biases of query, key and value (Qwen2), and of attention's output matrix.
        mlp_bias: biases of the MLP.
        window: tokens that a layer looks back over, itself included; None: all.
        window_layers: layers that have the window; None: all of them (Mistral).
        activation: of the MLP: `silu`, or `gelu_tanh` (Gemma).
        gemma: norms stored less 1, and embeddings times sqrt(width).
        layout: the published architecture whose name the folder bears, where several fit; None: the plainest.
    """

    vocab_size: int = Field(ge=1)
    context: int = Field(ge=1)
    depth: int = Field(ge=1)
    width: int = Field(ge=2)
    head_dim: int = Field(ge=2, multiple_of=2)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    rope_theta: float = Field(default=10_000.0, gt=1)
    norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    qk_norm: bool = True
    tied: bool = True
    special: dict[str, int] = {}
    rope_scaling: Scaling | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    window: int | None = Field(default=None, ge=1)
    window_layers: list[int] | None = None
    activation: Literal["silu", "gelu_tanh"] = "silu"
    gemma: bool = False
    layout: Layout | None = None

    @field_validator("kv_heads")
    @classmethod
    def _divides(cls, value: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads", value)
        if heads % value:
            raise ValueError(f"give a divisor of heads ({heads})")
        return value

    @model_validator(mode="after")
    def _published(self) -> Self:
        if not self.layouts():
            raise ValueError("no published architecture has these parts together; see families/transformer_hf.py")
        return self

    def layouts(self) -> list[Layout]:
        """Return the published architectures that have this model's parts, the plainest first."""
        every_layer = self.window is None or all(map(self.windowed, range(self.depth)))
        both = self.qkv_bias == self.out_bias
        fits: dict[Layout, bool] = {
            "qwen3": self.qk_norm and both and not self.gemma and not self.mlp_bias,
            "llama": not self.qk_norm and both and not self.gemma and self.window is None,
            "mistral": not (self.qk_norm or self.qkv_bias or self.out_bias or self.mlp_bias or self.gemma)
            and every_layer,
            "qwen2": self.qkv_bias and not (self.out_bias or self.qk_norm or self.mlp_bias or self.gemma),
            "gemma": self.gemma and both and not (self.qk_norm or self.mlp_bias) and self.window is None}
        return [name for name, fit in fits.items() if fit]

    @property
    def architecture(self) -> Layout:
        """The published architecture whose name the model's folder bears."""
        known = self.layouts()
        return self.layout if self.layout in known else known[0]

    def windowed(self, layer: int) -> bool:
        """Whether a layer looks back over the window only."""
        return self.window is not None and (self.window_layers is None or layer in self.window_layers)

    @staticmethod
    def derive(depth: int, vocab_size: int, context: int, overrides: dict[str, Any] | None = None,
               special: dict[str, int] | None = None) -> TransformerConfig:
        """Fill in a whole configuration from `depth`; what derives from an overridden value follows it.

        Raises:
            RecipeError: an unknown key (with the nearest right one), a bad value, or a key that belongs elsewhere.
        """
        overrides = overrides or {}
        refuse_foreign(overrides, "transformer")
        width = pick(overrides, "width", 64 * depth)
        head_dim = pick(overrides, "head_dim", 64)
        heads = pick(overrides, "heads", max(1, width // head_dim))
        values = {
            "vocab_size": vocab_size, "context": context, "depth": depth, "width": width, "head_dim": head_dim,
            "heads": heads, "kv_heads": heads // 2 if heads % 2 == 0 else heads,
            "intermediate": mlp_width(width), "rope_theta": 10_000.0 if context <= 4096 else 1_000_000.0,
            "special": special or {},
        }
        return validate(TransformerConfig, {**values, **overrides}, where="generator")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters."""
        plain = self.model_dump(exclude={"special"}).items()
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        return {**{name: value for name, value in plain if name not in _IMPORTED or value != usual[name]},
                "parameters": self.parameters()}

    def parameters(self) -> int:
        """Return the number of weights; a tied output matrix counts once."""
        norms = self.depth * (2 * self.width + 2 * self.head_dim * self.qk_norm) + self.width
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) * self.qkv_bias + self.width * self.out_bias + \
            (2 * self.intermediate + self.width) * self.mlp_bias
        embedding = self.vocab_size * self.width
        return self.matrix_parameters() + norms + self.depth * biases + embedding * (1 if self.tied else 2)

    def matrix_parameters(self) -> int:
        """Return the number of weights in the layers' matrices."""
        attention = self.width * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.depth * (attention + 3 * self.width * self.intermediate)
