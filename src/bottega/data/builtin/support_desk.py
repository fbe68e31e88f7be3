"""Built-in source `support-desk`: chats of a small shop's customer service whose right answers are known.

A closed world of our own: products with prices, situations with rules that depend on the days since delivery, customers
who say it in their own words. Every answer holds a decision, an amount, the next step and a JSON ticket, all computed
from the rules, so that a model's answer can be checked fact by fact. Half of the answers are written in the house
tone, half are curt, like the logs of many agents. Product-situation pairs in `HELD_OUT` occur in no training chat.
`bottega data inspect recipes/python-assistant.yaml -n 3` shows some. Apache-2.0, like all of Bottega.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from bottega.data.record import Record, Split

LICENCE = "Apache-2.0"
Tone = Literal["house", "curt"]
TRAIN_CHATS, HELD_OUT_CHATS = 12_000, 1_200

PRODUCTS = {  # name → price in euros; all even, so that half is whole
    "kettle": 40, "toaster": 36, "blender": 64, "lamp": 28, "radio": 52, "clock": 24, "heater": 88, "fan": 46,
    "chair": 72, "desk": 140, "mirror": 62, "pillow": 18, "backpack": 56, "umbrella": 22, "keyboard": 48,
    "printer": 120,
}
NAMES = ("Ana", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jack", "Kim", "Leo", "Maria",
         "Nina", "Oscar", "Paul", "Rosa", "Sam", "Tom", "Vera")
WHEN = {  # as customers say it → days since delivery
    "yesterday": 1, "3 days ago": 3, "5 days ago": 5, "last week": 7, "10 days ago": 10, "3 weeks ago": 21,
    "2 months ago": 60, "3 months ago": 90, "5 months ago": 150, "half a year ago": 180,
}
DELIVERY_FEE = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision: what the customer gets back as a share of the price (or the delivery fee), and what happens next."""

    policy: str
    share: Literal["price", "half", "fee", "nothing"]
    step: str  # the ticket's `next`
    decision: str
    instruction: str
    curt: str

    def amount(self, product: str) -> int:
        """Return the amount in whole euros."""
        price = PRODUCTS[product]
        return {"price": price, "half": price // 2, "fee": DELIVERY_FEE, "nothing": 0}[self.share]


REFUND = Outcome("refund", "price", "return", "we will refund the full {amount} euros",
                 "Please send it back with the label we mail you", "Refund {amount} euros. Send it back")
CREDIT = Outcome("credit", "half", "voucher", "we can offer a credit of {amount} euros",
                 "We will mail you the voucher today", "Credit {amount} euros. Voucher by mail")
REPAIR = Outcome("repair", "nothing", "workshop", "our workshop will repair it for {amount} euros",
                 "Please bring it to any of our shops", "Repair {amount} euros. Bring it to a shop")
EXCHANGE = Outcome("exchange", "nothing", "courier", "we will exchange it for {amount} euros",
                   "A courier brings the right one and takes this one", "Exchange {amount} euros. Courier comes")
FEE = Outcome("fee", "fee", "tracking", "we will give back the delivery fee of {amount} euros",
              "We will mail you the tracking link", "Fee {amount} euros back. Tracking by mail")
GIFT = Outcome("reship", "nothing", "parcel", "we will send the missing part for {amount} euros",
               "The parcel leaves tomorrow", "Part {amount} euros. Parcel tomorrow")


@dataclass(frozen=True, slots=True)
class Situation:
    """Why a customer writes: phrasings, and the rule: `early` up to `limit` days after delivery, `late` after that."""

    name: str
    limit: int
    early: Outcome
    late: Outcome
    phrasings: tuple[str, ...]
    sympathy: str


SITUATIONS = (
    Situation("broken", 30, REFUND, REPAIR, ("the {p} arrived broken", "my {p} came with a crack",
              "the {p} was damaged in the box"), "I am sorry that your {p} arrived broken"),
    Situation("regret", 14, REFUND, CREDIT, ("I changed my mind about the {p}", "I no longer want the {p}",
              "I do not need the {p} any more"), "I understand that you no longer want the {p}"),
    Situation("wrong", 30, EXCHANGE, CREDIT, ("you sent the wrong {p}", "this is not the {p} I ordered",
              "the {p} has the wrong colour"), "I am sorry that we sent the wrong {p}"),
    Situation("missing", 30, GIFT, CREDIT, ("a part of the {p} is missing", "the {p} came without its screws",
              "the box of the {p} was not complete"), "I am sorry that a part of your {p} is missing"),
    Situation("stopped", 30, REPAIR, CREDIT, ("the {p} stopped working", "my {p} no longer works",
              "the {p} died on me"), "I am sorry that your {p} stopped working"),
    Situation("slow", 30, FEE, FEE, ("the {p} came far too late", "I waited weeks for the {p}",
              "the delivery of the {p} was very slow"), "I am sorry that your {p} came so late"),
    Situation("charged", 30, REFUND, REFUND, ("I was charged twice for the {p}", "you took the money for the {p} twice",
              "my card shows two payments for the {p}"), "I am sorry that you were charged twice for the {p}"),
    Situation("noisy", 30, EXCHANGE, REPAIR, ("the {p} makes a strange noise", "the {p} smells odd",
              "something rattles in the {p}"), "I am sorry that your {p} is not as it should be"),
)
# Every product misses one situation in training, every situation misses two products.
HELD_OUT = frozenset((product, SITUATIONS[number % len(SITUATIONS)].name) for number, product in enumerate(PRODUCTS))

_ORDERS = ("order {o}", "order number {o}", "my order {o}")
_DELIVERED = ("delivered {w}", "it came {w}", "I got it {w}")
_OPENINGS = ("Hi, {n} here. ", "Hello, I am {n}. ", "This is {n}. ", "{n} writing. ")
_CLOSINGS = ("What now?", "What can you do?", "Can you help?", "Please help.")
_CLOSED = "Thank you for your patience."
_TICKET = re.compile(r"\{[^{}]*\}")
_HOUSE = re.compile(r"^Hello \w+, I (?:am sorry|understand) .+\. As a solution, .+\. " + re.escape(_CLOSED) + "$",
                    re.DOTALL)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a right answer says: the ticket's content."""

    order: int
    product: str
    policy: str
    amount: int
    next: str


@dataclass(frozen=True, slots=True)
class Case:
    """A customer with a problem; everything right follows from it by the rules."""

    product: str
    situation: Situation
    when: str
    order: int
    name: str

    @property
    def days(self) -> int:
        """Days since delivery."""
        return WHEN[self.when]

    @property
    def outcome(self) -> Outcome:
        """The decision the rules demand."""
        return self.situation.early if self.days <= self.situation.limit else self.situation.late

    @property
    def facts(self) -> Facts:
        """The ticket the rules demand."""
        outcome = self.outcome
        return Facts(self.order, self.product, outcome.policy, outcome.amount(self.product), outcome.step)

    def message(self, rng: random.Random) -> str:
        """Return the customer's words, phrased at random."""
        problem = rng.choice(self.situation.phrasings).format(p=self.product)
        order = rng.choice(_ORDERS).format(o=self.order)
        when = rng.choice(_DELIVERED).format(w=self.when)
        problem = problem[0].upper() + problem[1:]
        opening = rng.choice(_OPENINGS).format(n=self.name)
        return f"{opening}{problem}, {order}, {when}. {rng.choice(_CLOSINGS)}"

    def answer(self, tone: Tone) -> str:
        """Return the right answer in a tone: text, then the ticket as compact JSON on a line of its own."""
        outcome, facts = self.outcome, self.facts
        if tone == "house":
            text = (f"Hello {self.name}, {self.situation.sympathy.format(p=self.product)}. As a solution, "
                    f"{outcome.decision.format(amount=facts.amount)}. {outcome.instruction}. {_CLOSED}")
        else:
            text = f"{outcome.curt.format(amount=facts.amount)}."
        return f"{text}\n{json.dumps(asdict(facts), separators=(',', ':'))}"


def draw(rng: random.Random, *, held_out: bool) -> Case:
    """Return a random case whose product-situation pair is (or is not) held out."""
    while True:
        product, situation = rng.choice(tuple(PRODUCTS)), rng.choice(SITUATIONS)
        if ((product, situation.name) in HELD_OUT) == held_out:
            return Case(product, situation, rng.choice(tuple(WHEN)), rng.randrange(1000, 10_000), rng.choice(NAMES))


def cases(split: Split, count: int, seed: int = 0) -> Iterator[tuple[Case, str]]:
    """Yield (case, customer's message) of a split; the same for the same arguments."""
    rng = random.Random(f"support-desk {split} {seed}")
    for _ in range(count):
        case = draw(rng, held_out=split == "validation")
        yield case, case.message(rng)


def read_ticket(answer: str) -> Facts | None:
    """Return the facts of the last JSON ticket in an answer, None where there is no valid one."""
    found = _TICKET.findall(answer)
    try:
        ticket = json.loads(found[-1]) if found else None
        return Facts(**ticket) if isinstance(ticket, dict) else None
    except (ValueError, TypeError):
        return None


def text_of(answer: str) -> str:
    """Return the words before the ticket."""
    return answer.split("\n{")[0].strip()


def is_house_tone(answer: str) -> bool:
    """Return whether the words greet by name, show sympathy, offer a solution and thank."""
    return _HOUSE.match(text_of(answer)) is not None


def records() -> Iterator[Record]:
    """Yield the chats: training pairs first, then held-out ones (forced into the validation split)."""
    counts: tuple[tuple[Split, int], ...] = (("train", TRAIN_CHATS), ("validation", HELD_OUT_CHATS))
    for split, count in counts:
        for number, (case, message) in enumerate(cases(split, count)):
            tone: Tone = "house" if number % 2 else "curt"
            turns = [{"role": "user", "content": message}, {"role": "assistant", "content": case.answer(tone)}]
            yield Record.chat(f"builtin:support-desk/{split}/{number}", turns, licence=LICENCE, split=split,
                              meta={"facts": asdict(case.facts), "tone": tone, "situation": case.situation.name,
                                    "days": case.days})
