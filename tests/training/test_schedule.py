import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.recipe import Budget, TrainingSpec
from bottega.training.schedule import Clock, rate
from bottega.training.sizes import sizes

SPEC = TrainingSpec(warmup=0.1, decay=0.5, final_rate=0.1)


@pytest.mark.parametrize(("progress", "share"),
                         [(0, 0), (0.05, 0.5), (0.1, 1), (0.5, 1), (0.75, 0.55), (1, 0.1), (2, 0.1)])
def test_warmup_stable_decay(progress, share):
    assert rate(progress, SPEC) == pytest.approx(share)


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_rate_stays_between_zero_and_one(progress, warmup, decay, final):
    assert 0 <= rate(progress, TrainingSpec(warmup=warmup, decay=decay, final_rate=final)) <= 1


def test_no_step_of_a_steps_budget_is_wasted_at_rate_zero():
    clock, spec = Clock(Budget(steps=10)), TrainingSpec(warmup=0.5, decay=0.5)
    shares = [rate(clock.during(clock.progress(i, 0, 0), step=i, tokens=0, step_tokens=1), spec) for i in range(10)]
    assert min(shares) > 0
    assert shares == pytest.approx(shares[::-1])


def test_each_budget_gives_progress():
    assert Clock(Budget(steps=4)).progress(1, 0, 0) == 0.25
    assert Clock(Budget(tokens=100)).progress(0, 50, 0) == 0.5
    assert Clock(Budget(minutes=1), reserve=20).progress(0, 0, 20) == 0.5


@pytest.mark.parametrize(("tokens", "batch"), [(1_000_000, 2048), (20_000_000, 8192), (10**12, 1 << 19)])
def test_derived_batch_leaves_two_thousand_steps(tokens, batch):
    chosen = sizes(TrainingSpec(budget=Budget(tokens=tokens), context=256), 1.0)
    assert chosen.batch_tokens == batch
    assert chosen.micro_batch * 256 <= 4096


def test_sizes_of_the_recipe_are_kept():
    chosen = sizes(TrainingSpec(budget=Budget(steps=5), context=64, batch_tokens=640, micro_batch=2), 1.0)
    assert (chosen.batch_tokens, chosen.micro_batch) == (640, 2)
