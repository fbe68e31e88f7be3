"""One codec, one transformer and its engine for the whole room."""

import pytest

from bottega.codecs.text import TextCodec
from bottega.families.base import TokenGenerator
from bottega.generation.engine import Engine
from tests.generation.small import TEXTS, engine_of, model


@pytest.fixture(scope="session")
def codec() -> TextCodec:
    return TextCodec.train(TEXTS, 420)


@pytest.fixture(scope="session")
def generator(codec: TextCodec) -> TokenGenerator:
    return model(codec)


@pytest.fixture(scope="session")
def engine(generator: TokenGenerator, codec: TextCodec) -> Engine:
    return engine_of(generator, codec)
