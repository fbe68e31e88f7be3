"""Tiny random models in the form in which others publish theirs, written by transformers' own classes.

Six architectures with a tokenizer and a chat template each. Weights are drawn wide enough that greedy decoding wanders.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "The cat sat on the mat and looked at the rain. It's 1,234 o'clock; the café's naïve owner said: \"Où est-ce?\"\n",
    "def area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area(2))\n",
    "user: my kettle arrived broken. assistant: I am sorry; we will send you a new one today.\n",
    "one two three four five six seven eight nine ten, ten nine eight seven six five four three two one\n",
] * 4
GPT2_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2_PIECES = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_PIECES = QWEN2_PIECES.replace(r"|\p{N}|", r"|\p{N}{1,3}|", 1)

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
          "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA3 = ("{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
MISTRAL = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
           "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
           "{{ ' ' + message['content'] + eos_token }}{% else %}"
           "{{ raise_exception('only user and assistant turns') }}{% endif %}{% endfor %}")
GEMMA = ("{{ bos_token }}{% for message in messages %}"
         "{% if message['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
         "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
         "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")
# answers lose their thoughts once a user has spoken again, and the last one is given an empty thought
THINKING = (
    "{% set ns = namespace(last=-1) %}{% for message in messages %}{% if message.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for message in messages %}"
    "{% set content = message.content %}{% if message.role == 'assistant' %}{% set thought = '' %}"
    "{% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ content + '<|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_level(pieces: str, specials: list[str], size: int = 420) -> Tokenizer:
    """A byte-level BPE with an expression that cuts text into pieces, reserved tokens last."""
    tokenizer = Tokenizer(models.BPE())
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pieces), behavior="isolated"), letters])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(specials)
    return tokenizer


def sentence_piece(specials: list[str], *, prefix: bool, size: int = 200) -> Tokenizer:
    """A BPE as converters make it of a SentencePiece model: "▁" for spaces, a token for each unknown byte."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never")
    learner.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    learned = [token for token, _ in sorted(learner.get_vocab().items(), key=lambda pair: pair[1])]
    tokens = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    known = set(learned)
    merges = [(token[:cut], token[cut:]) for token in learned for cut in range(1, len(token))
              if token[:cut] in known and token[cut:] in known]  # every way to a token, in the order of the tokens
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    tokenizer.add_special_tokens(specials)
    return tokenizer


@dataclass(frozen=True)
class Kind:
    """One architecture: its configuration, tokenizer, template and special tokens."""

    config: Callable[[dict[str, Any]], Any]
    tokenizer: Callable[[], Tokenizer]
    template: str
    special: dict[str, str]
    bos: bool = False


_SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
          "num_key_value_heads": 2, "max_position_embeddings": 256}
WINDOW = 24


def _config(name: str, **more: Any) -> Callable[[dict[str, Any]], Any]:
    def make(facts: dict[str, Any]) -> Any:
        import transformers

        return getattr(transformers, name)(**{**_SHAPE, **more, **facts})
    return make


_IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_ML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
KINDS = {
    "llama": Kind(_config("LlamaConfig", rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False, attention_bias=True),
                  lambda: byte_level(LLAMA3_PIECES, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                                                     "<|end_header_id|>", "<|eot_id|>"]),
                  LLAMA3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
                           "pad_token": "<|end_of_text|>"}, bos=True),
    "mistral": Kind(_config("MistralConfig", sliding_window=WINDOW, tie_word_embeddings=False),
                    lambda: sentence_piece(["<unk>", "<s>", "</s>"], prefix=True), MISTRAL,
                    {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, bos=True),
    "qwen2": Kind(_config("Qwen2Config", use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
                          tie_word_embeddings=False),
                  lambda: byte_level(QWEN2_PIECES, [*_IM, "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]),
                  CHATML, _ML),
    "qwen3": Kind(_config("Qwen3Config", head_dim=32, tie_word_embeddings=True),
                  lambda: byte_level(QWEN2_PIECES, [*_IM]), THINKING, _ML),
    "gemma": Kind(_config("GemmaConfig", head_dim=32),
                  lambda: sentence_piece(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
                                         prefix=False), GEMMA,
                  {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}, bos=True),
    "smollm": Kind(_config("LlamaConfig", tie_word_embeddings=True, mlp_bias=True),
                   lambda: byte_level(GPT2_PIECES, [*_IM]), CHATML, {**_ML, "bos_token": "<|im_start|>"}),
}


def widen(model: torch.nn.Module, quiet: list[int], seed: int = 0) -> None:
    """Draw weights that make a lively model; tokens of `quiet` are never the most probable."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=1.3 * weight.shape[1] ** -0.5)
            elif "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
            else:
                weight.normal_(std=0.3)
        head = model.get_output_embeddings().weight
        head.mul_(2.0)
        if head is model.get_input_embeddings().weight:  # else a token's own embedding makes it follow itself
            for name, weight in model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.mul_(4.0)
        head[quiet] = 0.0


def write(kind: str, folder: Path, *, shards: bool = False, dtype: torch.dtype = torch.float32, seed: int | None = 0,
          **changes: Any) -> Any:
    """Write a folder as `save_pretrained` does and return transformers' model, fp32 in memory."""
    import transformers

    made = KINDS[kind]
    tokenizer = made.tokenizer()
    ids = {f"{name}_id": tokenizer.token_to_id(token) for name, token in made.special.items()}
    ids = {"bos_token_id": None, "pad_token_id": None, **{k: v for k, v in ids.items() if k != "unk_token_id"}}
    config = made.config({"vocab_size": tokenizer.get_vocab_size() + 3, **ids, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    added = json.loads(tokenizer.to_str())["added_tokens"]
    if seed is not None:  # else as transformers draws a model that is to be trained
        widen(model, [*(entry["id"] for entry in added), *range(tokenizer.get_vocab_size(), config.vocab_size)], seed)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": "100KB"} if shards else {}))
    if dtype != torch.float32:  # `float()` would not bring back what was rounded outside the weights
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if made.bos:
        bos = made.special["bos_token"]
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, _front(bos, ids["bos_token_id"])]) \
            if tokenizer.post_processor is not None else _front(bos, ids["bos_token_id"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", **made.special, "chat_template": made.template,
        "clean_up_tokenization_spaces": False}))
    return model


def _front(bos: str, number: int) -> Any:
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, number)])
