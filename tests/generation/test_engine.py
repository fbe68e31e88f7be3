"""The whole way from request to signed result."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import ControlError, CorruptError, InputError
from bottega.core.lineage import Lineage
from bottega.core.request import Controls, Message, Request, Step
from bottega.families.base import TokenGenerator
from bottega.generation.engine import Engine
from bottega.generation.linear import supports_fp16
from tests.generation.small import TEXTS, engine_of, model


def ask(prompt: str = "The cat", alternatives: int = 0, **controls: object) -> Request:
    return Request(prompt=prompt, controls=Controls(**controls), alternatives=alternatives)


MIXED = [ask("The cat " * (1 + index % 4), seed=index, max_tokens=6 + index, **extra) for index, extra in enumerate([
    {}, {"top_p": 0.9}, {"temperature": 0}, {"top_k": 20}, {"n": 3}, {"repetition_penalty": 1.3}, {"min_p": 0.05},
    {"top_p": 0.9}, {"n": 2, "best_of": 4}, {"stop": ["a"]}, {"presence_penalty": 1, "frequency_penalty": 0.5}, {}])]


@pytest.mark.skipif(not supports_fp16(), reason="fp32 rows may differ in the last digit between batches")
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_one_seed_gives_one_result_at_any_batch_size(generator: TokenGenerator, codec: TextCodec, dtype: str) -> None:
    engine = engine_of(generator, codec, dtype)
    together = engine.generate_many(MIXED)
    for request, result in zip(MIXED, together, strict=True):
        alone = engine.generate(request)
        assert alone.outputs == result.outputs  # texts, tokens, every log-probability: the same bits
        assert alone.lineage == result.lineage


def test_in_fp32_batches_agree_to_the_last_digits(generator: TokenGenerator, codec: TextCodec) -> None:
    """A batch sums in another order than a lone row, so fp32 promises closeness; these seeds meet no near-tie."""
    engine = engine_of(generator, codec, "fp32")
    for request, result in zip(MIXED, engine.generate_many(MIXED), strict=True):
        alone = engine.generate(request)
        assert [output.text for output in alone.outputs] == [output.text for output in result.outputs]
        assert [o.score for o in alone.outputs] == pytest.approx([o.score for o in result.outputs], abs=1e-4)


def test_a_recurrent_model_answers_too(codec: TextCodec) -> None:
    engine = engine_of(model(codec, "recurrent"), codec)
    requests = [ask("x" * (index + 1), seed=index, max_tokens=10) for index in range(5)]
    together = engine.generate_many(requests)
    assert [r.outputs[0].text for r in together] == [engine.generate(q).outputs[0].text for q in requests]
    chat = Request(messages=[Message(role="user", content="hi")], controls=Controls(max_tokens=5, n=2))
    assert len(engine.generate(chat).outputs) == 2


def test_more_requests_than_a_batch_holds(engine: Engine) -> None:
    requests = [ask(f"number {index}", seed=index, max_tokens=3, n=2) for index in range(40)]
    results = engine.generate_many(requests)
    assert [result.seed for result in results] == list(range(40))
    assert results[33].outputs == engine.generate(requests[33]).outputs


def test_stream_is_the_result_in_pieces(engine: Engine) -> None:
    for request in (ask(seed=3, max_tokens=20), ask(seed=3, max_tokens=20, n=3), ask(seed=4, n=2, best_of=5)):
        steps: list[Step] = list(engine.stream(request))
        outputs = engine.generate(request).outputs
        texts = {"".join(step.text for step in steps if step.output == number) for number in range(len(outputs))}
        assert texts == {output.text for output in outputs}
        assert sum(step.finish is not None for step in steps) == len(outputs)
        assert len(steps) == sum(len(output.tokens) for output in outputs)


def test_text_is_the_decoded_tokens(engine: Engine, codec: TextCodec) -> None:
    for seed in range(10):
        output = engine.generate(ask(seed=seed, max_tokens=30)).outputs[0]
        assert output.text == codec.decode(output.tokens)
        assert output.score == pytest.approx(sum(step.logprob or 0 for step in output.steps) / len(output.steps))


def test_a_seed_is_chosen_and_makes_the_same_again(engine: Engine) -> None:
    first = engine.generate(ask(max_tokens=20))
    again = engine.generate(ask(max_tokens=20, seed=first.seed))
    assert again.outputs == first.outputs
    assert again.lineage == first.lineage
    assert engine.generate(ask(max_tokens=20)).seed != first.seed
    assert json.loads(json.dumps(first.lineage))["controls"]["seed"] == first.seed


def test_best_of_returns_the_most_probable(engine: Engine) -> None:
    all_five = engine.generate(ask(seed=5, max_tokens=8, n=5)).outputs
    best = engine.generate(ask(seed=5, max_tokens=8, n=2, best_of=5))
    assert [output.score for output in all_five] == sorted((o.score for o in all_five), reverse=True)
    assert best.outputs == all_five[:2]
    assert best.new_tokens == sum(len(output.tokens) for output in all_five)
    assert [step.output for step in best.outputs[1].steps] == [1] * len(best.outputs[1].tokens)
    with pytest.raises(ControlError, match="best_of"):
        Controls.parse({"n": 3, "best_of": 2})


@given(stop=st.sampled_from(["a", " t", "猫", "the", "e t", '["', "in", "\ufffd"]), seed=st.integers(0, 300))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stop_strings_end_the_text_and_never_show(engine: Engine, stop: str, seed: int) -> None:
    free = engine.generate(ask(seed=seed, max_tokens=40)).outputs[0]
    steps = list(engine.stream(ask(seed=seed, max_tokens=40, stop=[stop])))
    text = "".join(step.text for step in steps)
    assert text == free.text.split(stop)[0]
    if stop in free.text:
        assert steps[-1].finish == "stop"
        assert [step.token for step in steps] == free.tokens[:len(steps)]


def test_reserved_tokens_are_never_made(engine: Engine, codec: TextCodec) -> None:
    reserved = set(codec.special.values()) - {codec.eos, codec.end_of_turn}
    for seed in range(20):
        output = engine.generate(ask(seed=seed, temperature=3)).outputs[0]
        assert not reserved & set(output.tokens)
        assert (output.finish == "end") == (output.tokens[-1] in (codec.eos, codec.end_of_turn))


def test_budget(engine: Engine, codec: TextCodec) -> None:
    short = engine.generate(ask(max_tokens=3, logit_bias={str(codec.eos): -100, str(codec.end_of_turn): -100}))
    assert len(short.outputs[0].tokens) == 3
    assert short.outputs[0].finish == "length"
    full = engine.generate(ask(logit_bias={str(codec.eos): -100, str(codec.end_of_turn): -100}))
    assert full.prompt_tokens + full.new_tokens == engine.context


def test_a_prompt_that_does_not_fit_is_refused_with_numbers(engine: Engine) -> None:
    for request in (ask("猫" * 60), Request(messages=[Message(role="user", content="猫" * 60)])):
        with pytest.raises(InputError, match=r"the prompt has \d+ tokens, the model's context is 96") as caught:
            engine.generate(request)
        assert "shorten the prompt by" in caught.value.fix
    with pytest.raises(InputError):
        engine.stream(ask("猫" * 60))  # before the first step is asked for


def test_controls_are_refused_by_name(engine: Engine, generator: TokenGenerator, codec: TextCodec) -> None:
    with pytest.raises(ControlError, match="temperature: -1"):
        Controls.parse({"temperature": -1})
    with pytest.raises(ControlError, match="transformer model does not understand the control 'guidance_scale'"):
        engine.generate(ask(guidance_scale=3.0))
    with pytest.raises(ControlError, match="understand the control 'voice'"):
        engine_of(generator, codec, voice="alto")


def test_request_over_bundle_over_family(generator: TokenGenerator, codec: TextCodec) -> None:
    engine = engine_of(generator, codec, temperature=0.0, max_tokens=4)
    assert engine.generate(ask()).lineage["controls"]["temperature"] == 0
    assert len(engine.generate(ask()).outputs[0].tokens) <= 4
    assert engine.generate(ask(temperature=0.5)).lineage["controls"]["temperature"] == 0.5
    assert engine_of(generator, codec).generate(ask(max_tokens=1)).lineage["controls"]["temperature"] == 1


def test_logit_bias_forces_and_forbids(engine: Engine, codec: TextCodec) -> None:
    forced = engine.generate(ask(seed=1, max_tokens=6, logit_bias={"e": 100})).outputs[0]
    assert forced.text == "e" * 6
    free = engine.generate(ask(seed=1, max_tokens=20)).outputs[0].tokens
    without = engine.generate(ask(seed=1, max_tokens=20, logit_bias={str(free[0]): -100})).outputs[0].tokens
    assert free[0] not in without
    with pytest.raises(ControlError, match=r"is \d tokens, not one"):
        engine.generate(ask(logit_bias={"猫q": 5}))
    with pytest.raises(ControlError, match="there is no token 99999"):
        engine.generate(ask(logit_bias={"99999": 5}))


def test_penalties_lower_repetition(engine: Engine, codec: TextCodec) -> None:
    ends = {str(codec.eos): -100.0, str(codec.end_of_turn): -100.0}
    greedy = engine.generate(ask(temperature=0, max_tokens=60, logit_bias=ends)).outputs[0].tokens
    for penalty in ({"repetition_penalty": 3.0}, {"presence_penalty": 8.0}, {"frequency_penalty": 8.0}):
        varied = engine.generate(ask(temperature=0, max_tokens=60, logit_bias=ends, **penalty)).outputs[0].tokens
        assert len(set(varied)) > len(set(greedy))


def test_fill_in_the_middle_reads_both_sides(engine: Engine, codec: TextCodec) -> None:
    request = Request(prompt="def area(r):", suffix="return x", controls=Controls(seed=1, max_tokens=5))
    assert engine.generate(request).prompt_tokens == len(codec.encode_fim("def area(r):", "return x"))


def test_steps_show_alternatives_and_changes(engine: Engine) -> None:
    request = ask(seed=2, max_tokens=10, alternatives=4, temperature=0.7, top_k=30, top_p=0.8, repetition_penalty=1.5)
    plain = engine.generate(request.model_copy(update={"alternatives": 0})).outputs[0]
    output = engine.generate(request).outputs[0]
    assert output.tokens == plain.tokens  # looking does not change the result
    for step, fast in zip(output.steps, plain.steps, strict=True):
        assert len(step.alternatives) == 4
        assert step.token not in {other.token for other in step.alternatives}
        logprobs = [other.logprob for other in step.alternatives]
        assert logprobs == sorted(logprobs, reverse=True)
        assert step.probability == fast.probability
        assert (step.probability or 0) + sum(other.probability for other in step.alternatives) <= 1 + 1e-5
        told = " ".join(step.changes)
        assert all(name in told for name in ("temperature 0.7: entropy", "top_k 30: removed", "top_p 0.8: removed"))


def test_score_reads_what_generate_wrote(engine: Engine) -> None:
    made = engine.generate(ask(seed=9, max_tokens=12)).outputs[0]
    read = engine.score("The cat", made.text, alternatives=3)
    assert "".join(step.text for step in read.steps) == made.text
    if read.tokens == made.tokens:
        assert read.score == pytest.approx(made.score, abs=1e-4)
    conversation = [Message(role="user", content="hi")]
    assert len(engine.score(conversation, "one two", alternatives=5).steps[0].alternatives) == 5
    with pytest.raises(InputError, match="no text to score"):
        engine.score("x", "")


def bundle_of(folder: Path, generator: TokenGenerator, codec: TextCodec) -> Bundle:
    def write(path: Path) -> None:
        generator.save(path)
        codec.save(path)

    return Bundle.create(folder, meta={"family": "transformer", "codec": "text", "objective": "sft",
                                       "controls": {"temperature": 0.8}}, write=write, card="a test",
                         lineage=lambda content: Lineage(kind="model", name="t", content=content, step="test"))


def test_a_bundle_makes_the_same_bytes_in_another_process(generator: TokenGenerator, codec: TextCodec,
                                                          tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "model", generator, codec)
    engine = Engine.open(bundle.path)
    assert engine.answers
    assert engine.model_digest == bundle.digest
    result = engine.generate(ask(seed=11, max_tokens=30))
    assert result.lineage["path"] == str(bundle.path)
    assert result.model == bundle.digest
    code = ("import sys, json; from pathlib import Path; from bottega.generation.engine import Engine; "
            "from bottega.core.request import Request; "
            "r = Engine.open(Path(sys.argv[1])).generate(Request.model_validate_json(sys.argv[2])); "
            "print(json.dumps([r.outputs[0].text, r.outputs[0].score, r.lineage]))")
    request = ask(seed=11, max_tokens=30).model_dump_json(exclude_none=True)
    again = subprocess.run([sys.executable, "-c", code, str(bundle.path), request], capture_output=True, text=True,
                           check=True, timeout=120)
    text, score, lineage = json.loads(again.stdout)
    assert (text, score) == (result.outputs[0].text, result.outputs[0].score)
    assert {**lineage, "code": ""} == {**result.lineage, "code": ""}  # a checkout may be edited meanwhile
    weights = bundle.path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptError, match=r"model\.safetensors"):
        Engine.open(bundle.path)


def test_a_codec_larger_than_the_model_is_refused(generator: TokenGenerator) -> None:
    with pytest.raises(InputError, match="the codec has 430 tokens, the model only 420"):
        engine_of(generator, TextCodec.train(TEXTS, 430))


def test_generation_leaves_torch_s_random_state_alone(engine: Engine) -> None:
    before = torch.random.get_rng_state()
    engine.generate(ask(max_tokens=5))
    assert torch.equal(before, torch.random.get_rng_state())
