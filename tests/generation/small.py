"""Small random models whose distributions are sharp enough that controls matter."""

import torch

from bottega.codecs.text import TextCodec
from bottega.core.recipe import GeneratorSpec
from bottega.core.request import Controls
from bottega.families import build
from bottega.families.base import TokenGenerator
from bottega.generation.engine import Engine

TEXTS = ["The cat sat on the mat. Der Bär trinkt Tee. 猫はかわいい 🐈‍⬛! def area(r): return 3.14 * r * r\n",
         '{"name": "kettle", "price": 12.5, "tags": ["kitchen", "steel"]}\n',
         "one two three four five six seven\n"] * 20


def model(codec: TextCodec, family: str = "transformer", seed: int = 0, context: int = 96,
          **spec: object) -> TokenGenerator:
    """A random model; every matrix is drawn, so that no block is the identity."""
    torch.manual_seed(seed)
    generator = build(GeneratorSpec(family=family, depth=2, **spec), vocab_size=codec.vocab_size, context=context,
                      special=codec.special)
    with torch.no_grad():
        for weight in generator.parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
        generator.head_weight.mul_(1.5)
    return generator.eval()


def engine_of(generator: TokenGenerator, codec: TextCodec, dtype: str = "auto", **controls: object) -> Engine:
    return Engine(generator, codec, controls=Controls(**controls), model_digest="d" * 64, lineage={}, dtype=dtype)
