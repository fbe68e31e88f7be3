"""A model that gives a conversation one number: how good its last answer is. `bottega train` with `kind: reward`.

The layers of a language model with one row of weights where the vocabulary was, read at the last token (Stiennon et al.
2020, arXiv 2009.01325, §3.4). Only differences between answers to one prompt mean something: chosen is preferred to
rejected with probability σ(difference). A folder whose layers are a transformer loads in transformers as
`…ForSequenceClassification` with one label and gives the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bottega.core.bundle import Bundle
from bottega.core.errors import ContextError, CorruptError, InputError
from bottega.core.validate import validate
from bottega.families.adapter_files import CONFIG
from bottega.families.base import Batch, Generator, TokenGenerator
from bottega.families.recurrent import MODEL_TYPE, Recurrent, RecurrentConfig
from bottega.families.transformer import Transformer
from bottega.families.transformer_hf import config_from_hf
from bottega.families.weights import read_config, read_weights, write_model

_ARCHITECTURE = "ForSequenceClassification"
_HEAD = frozenset({"lm_head.weight"})
_PASS_TOKENS = 8192  # padding included: what `score` reads at once


class ChatEncoder(Protocol):
    """What is needed of a codec; `codecs.text.TextCodec` keeps it."""

    def encode_chat(self, messages: Sequence[Any], add_generation_prompt: bool = False) -> list[int]:
        """Return the ids of a conversation."""


class RewardModel(Generator):
    """The layers of a token generator and a scalar head.

    Args:
        backbone: the layers; taken over, not copied. Its output matrix is not used and not kept.

    The head starts at zero: every answer has reward 0, every pair the loss log 2, and no luck is drawn.
    """

    family = "reward"
    understands = frozenset()
    modules_to_save = frozenset({"value"})

    def __init__(self, backbone: TokenGenerator) -> None:
        if not backbone.config.tied:  # an output matrix of its own would be weights that nothing trains
            layers = type(backbone)(backbone.config.model_copy(update={"tied": True}))
            layers.load_state_dict({name: tensor for name, tensor in backbone.state_dict().items()
                                    if name not in _HEAD}, strict=False)
            backbone = layers.to(backbone.head_weight.device)
        super().__init__(backbone.config)
        self.backbone = backbone
        self.value = nn.Linear(backbone.head_weight.shape[1], 1, bias=False, device=backbone.head_weight.device)
        nn.init.zeros_(self.value.weight)

    @property
    def context(self) -> int:
        """Longest conversation in tokens."""
        return int(self.config.context)

    def forward(self, batch: Batch, dropout: float = 0.0) -> Tensor:
        """Return the reward of each conversation of a batch, fp32 [answers]; gradients flow.

        Args:
            batch: `tokens` int64 [B, T]; `ends` int64 [answers], places of the last tokens in the flattened batch;
                optional `segments` and `positions` int64 [B, T] for rows that hold several conversations.
            dropout: share of the last hidden state that is hidden from the head in training mode.
        """
        hidden = self.backbone.hidden(batch["tokens"], positions=batch.get("positions"),
                                      segments=batch.get("segments"))
        last = hidden.flatten(0, 1)[batch["ends"]]
        out: Tensor = self.value(nn.functional.dropout(last, dropout, self.training)).squeeze(1).float()
        return out

    @torch.no_grad()
    def score(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return the rewards of whole conversations, fp32 [n] on the CPU, in the order given.

        Args:
            rows: token ids of each, as `codec.encode_chat` gives them: up to the end token of the last turn.

        Raises:
            InputError: a row is empty.
            ContextError: a row is longer than the context; the message has the numbers.
        """
        lengths = [len(row) for row in rows]
        if not all(lengths):
            raise InputError("a conversation without tokens has no reward", fix="give at least one turn")
        if lengths and max(lengths) > self.context:
            raise ContextError(f"a conversation of {max(lengths)} tokens does not fit the reward model's context of "
                               f"{self.context}", fix="shorten it, or train the reward model with a longer context")
        device, found = self.value.weight.device, torch.zeros(len(rows))
        order = sorted(range(len(rows)), key=lambda number: lengths[number])  # little padding
        training = self.training
        self.eval()
        while order:
            size = max(1, _PASS_TOKENS // lengths[order[-1]])
            part, order = order[-size:], order[:-size]
            tokens = pad_sequence([torch.as_tensor(np.asarray(rows[number], np.int64)) for number in part],
                                  batch_first=True)  # what stands after the last token is never looked at
            ends = torch.arange(len(part)) * tokens.shape[1] + torch.tensor([lengths[n] - 1 for n in part])
            found[part] = self({"tokens": tokens.to(device), "ends": ends.to(device)}).cpu()
        self.train(training)
        return found

    def flops_per_item(self, context: int) -> float:
        """Return forward FLOPs a token: the layers' without the output matrix."""
        return self.backbone.flops_per_item(context) - 2.0 * self.backbone.head_weight.numel()

    def _named(self) -> nn.Module:
        """Return the same weights under the names that transformers gives them."""
        named = nn.Module()
        for name, child in self.backbone.named_children():
            named.add_module(name, child)
        named.add_module("score", self.value)
        return named

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors; of transformer layers in Hugging Face's form."""
        self.backbone.save(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)  # it generates nothing
        config = read_config(folder)
        kinds = [name.removesuffix("ForCausalLM") + _ARCHITECTURE for name in config["architectures"]]
        write_model(folder, self._named(), {**config, "architectures": kinds, "id2label": {"0": "reward"},
                                            "label2id": {"reward": 0}}, skip=_HEAD)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, or an adapter's bundle, merged into its base; fp32, evaluation mode.

        Raises:
            InputError: a file is not there, the folder holds another kind of model, or an adapter's base is gone.
            CorruptError: configuration or weights are damaged.
        """
        if (folder / CONFIG).is_file() and not (folder / "config.json").is_file():
            from bottega.families.bases import load_generator

            merged = load_generator(Bundle.open(folder))
            if not isinstance(merged, cls):
                raise _no_reward(folder)
            return merged
        config = read_config(folder)
        if not is_reward(config):
            raise _no_reward(folder)
        model = cls(_layers(config, str(folder)))
        read_weights(folder, model._named(), skip=_HEAD)
        return model.eval()


def _no_reward(folder: Path) -> InputError:
    return InputError(f"{folder} is not a reward model", fix="train one with 'objective: {kind: reward}'")


def is_reward(config: dict[str, Any]) -> bool:
    """Say whether a config.json is that of a reward model."""
    return any(str(name).endswith(_ARCHITECTURE) for name in config.get("architectures") or [])


def _layers(config: dict[str, Any], where: str) -> TokenGenerator:
    """Return layers of a configuration with fresh weights."""
    if config.get("model_type") == MODEL_TYPE:
        own = {key: value for key, value in config.items() if key in RecurrentConfig.model_fields}
        return Recurrent(validate(RecurrentConfig, own, where=where, error=CorruptError))
    return Transformer(config_from_hf(config, where).model_copy(update={"tied": True}))


def rewards(model: RewardModel, codec: ChatEncoder, conversations: Sequence[Sequence[Any]]) -> list[float]:
    """Return the reward of each conversation's last answer.

    Args:
        model: the reward model.
        codec: the codec that came with it.
        conversations: each a list of turns with `role` and `content`, the answer as the last one.

    Raises:
        InputError: a turn is malformed.
        ContextError: a conversation is longer than the model's context.
    """
    found: list[float] = model.score([codec.encode_chat(turns) for turns in conversations]).tolist()
    return found
