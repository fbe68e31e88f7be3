"""The packed transformer is the transformer; in fp16 and int8 a row does not see its batch, to the bit."""

from pathlib import Path

import pytest
import torch

from bottega.codecs.text import TextCodec
from bottega.core.errors import InputError
from bottega.families.base import TokenGenerator
from bottega.generation.linear import DTYPES, pack_fp16, pack_fp32, pack_int8, supports_fp16
from bottega.generation.runner import GeneratorRunner, Rows, Runner, make_runner
from tests.generation.small import model

half = pytest.mark.skipif(not supports_fp16(), reason="no half-precision product in this torch build")


def begin(runner: Runner, prompts: list[list[int]], count: int) -> tuple[Rows, torch.Tensor]:
    """Read prompts into rows; return them and the logits [B, V] after each prompt."""
    rows, logits = runner.rows(), list[torch.Tensor]()
    for prompt in prompts:
        reading = runner.read(prompt)
        while reading.remaining:
            runner.advance([reading])
        logits.append(rows.add(reading, 1, count))
    return rows, torch.stack(logits)


def greedy(runner: Runner, prompts: list[list[int]], count: int) -> tuple[list[list[int]], torch.Tensor]:
    rows, logits = begin(runner, prompts, count)
    tokens, seen = list[torch.Tensor](), list[torch.Tensor]()
    for _ in range(count):
        tokens.append(logits.argmax(-1))
        seen.append(logits)
        logits = rows.step(tokens[-1])
    return torch.stack(tokens, 1).tolist(), torch.stack(seen, 1)


@pytest.mark.parametrize("options", [{}, {"qk_norm": False}, {"tied": False}, {"heads": 4, "kv_heads": 1},
                                     {"width": 96, "head_dim": 16, "heads": 3, "kv_heads": 3}])
def test_fp32_equals_the_full_forward(codec: TextCodec, options: dict[str, object]) -> None:
    generator = model(codec, **options)
    runner = make_runner(generator, "fp32")
    tokens = torch.randint(0, codec.vocab_size, (3, 40))
    with torch.no_grad():
        full = generator(tokens)
    assert (runner.all_logits(tokens[0].tolist()) - full[0]).abs().max() < 1e-4
    sizes = [5, 1, 9]  # tokens of each row, then one token at a time
    rows, logits = begin(runner, [tokens[row, :size].tolist() for row, size in enumerate(sizes)], 40)
    for step in range(30):
        wanted = torch.stack([full[row, size + step - 1] for row, size in enumerate(sizes)])
        assert (logits - wanted).abs().max() < 1e-4
        logits = rows.step(torch.stack([tokens[row, size + step] for row, size in enumerate(sizes)]))


def test_greedy_tokens_are_those_of_transformers(codec: TextCodec, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    generator = model(codec)
    generator.save(tmp_path)
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    prompt = codec.encode("The cat sat on")
    made = peer.generate(torch.tensor([prompt]), max_new_tokens=64, min_new_tokens=64, do_sample=False,
                         eos_token_id=None, pad_token_id=codec.pad)
    tokens, _ = greedy(make_runner(generator, "fp32"), [prompt], 64)
    assert tokens[0] == made[0, len(prompt):].tolist()


@half
def test_fp16_stays_close_and_int8_near(generator: TokenGenerator, codec: TextCodec) -> None:
    tokens = torch.randint(0, codec.vocab_size, (60,)).tolist()
    exact = make_runner(generator, "fp32").all_logits(tokens).log_softmax(-1)
    for dtype, divergence in (("fp16", 1e-5), ("int8", 0.02)):
        rough = make_runner(generator, dtype).all_logits(tokens).log_softmax(-1)
        assert float((exact.exp() * (exact - rough)).sum(-1).mean()) < divergence


def test_packed_products_against_the_plain_one() -> None:
    x = torch.randn(7, 96)
    for rows in (40, 300):
        weight = torch.randn(rows, 96) * 0.05
        plain = x @ weight.t()
        assert (pack_fp32(weight)(x) - plain).abs().max() < 1e-5
        assert (pack_int8(weight)(x) - plain).norm() < 0.02 * plain.norm()
        if supports_fp16():
            assert (pack_fp16(weight)(x) - plain).norm() < 1e-3 * plain.norm()
    assert pack_int8(torch.zeros(8, 96))(torch.zeros(2, 96)).abs().max() == 0


@half
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_a_row_is_the_same_bits_in_any_batch(generator: TokenGenerator, codec: TextCodec, dtype: str) -> None:
    runner = make_runner(generator, dtype)
    texts = ("The", "one two three four five", "def area(r): ret", "猫", "a b c d e f g", "x" * 23, "Der Bär")
    prompts = [codec.encode(text) for text in texts]
    together = greedy(runner, prompts, 25)
    for row, prompt in enumerate(prompts):
        alone = greedy(runner, [prompt], 25)
        assert alone[0][0] == together[0][row]
        assert torch.equal(alone[1][0], together[1][row])


@half
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_threads_and_equal_lengths_change_no_bit(codec: TextCodec, dtype: str) -> None:
    """Rows of one length go through one call, several threads share the work; 33 keys once told them apart."""
    runner = make_runner(model(codec, width=128), dtype)
    prompts = [torch.randint(0, codec.vocab_size, (30,)).tolist() for _ in range(2)]
    threads, seen = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            seen += [greedy(runner, prompts, 5)[1], torch.cat([greedy(runner, [prompt], 5)[1] for prompt in prompts])]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(logits, seen[0]) for logits in seen)


@pytest.mark.parametrize("cell", ["gru", "mingru"])
def test_recurrent_models_run_by_the_general_way(codec: TextCodec, cell: str) -> None:
    generator = model(codec, "recurrent", cell=cell)
    runner = make_runner(generator)
    assert isinstance(runner, GeneratorRunner)
    prompts = [codec.encode(text) for text in ("The cat", "one two three", "x")]
    _, together = greedy(runner, prompts, 12)
    for row, prompt in enumerate(prompts):
        made, alone = greedy(runner, [prompt], 12)
        assert (alone[0] - together[row]).abs().max() < 1e-4
        full = runner.all_logits(prompt + made[0])[len(prompt) - 1:-1]
        assert (full - alone[0]).abs().max() < 1e-4


def test_the_general_way_agrees_for_the_transformer(generator: TokenGenerator, codec: TextCodec) -> None:
    prompts = [codec.encode(text) for text in ("The cat", "one two three", "x")]
    plain, fast = greedy(GeneratorRunner(generator), prompts, 12), greedy(make_runner(generator, "fp32"), prompts, 12)
    assert plain[0] == fast[0]
    assert (plain[1] - fast[1]).abs().max() < 1e-4


def test_dtypes_that_do_not_fit_are_refused(generator: TokenGenerator, codec: TextCodec) -> None:
    with pytest.raises(InputError, match="unknown dtype"):
        make_runner(generator, "int7")
    with pytest.raises(InputError, match="for transformers"):
        make_runner(model(codec, "recurrent"), "int8")
    assert make_runner(generator).dtype in DTYPES
