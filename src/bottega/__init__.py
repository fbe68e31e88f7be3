"""Bottega: the open workshop for generative AI. Start with `bottega demo` or `bottega --help`.

Importing this package loads neither torch nor any other heavy library.
"""

__version__ = "0.1.0"
