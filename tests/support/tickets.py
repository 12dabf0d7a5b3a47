"""Mails to a shop's support, each with the ticket to make of it, as rows of a dataset on standard output.

    python3 tests/support/tickets.py [ROWS] > tickets.jsonl

A pattern that can be learnt, and checked word for word: what a mail says is copied into the ticket, in a fixed order;
which team has it follows from the product, and how urgent it is from the fault. No mail comes twice, so rows that are
kept back ask for what was not shown.
"""

import json
import random
import sys

TEAMS = {
    "lamp": "lighting", "lantern": "lighting", "kettle": "kitchen", "toaster": "kitchen", "blender": "kitchen",
    "tent": "outdoor", "backpack": "outdoor", "bicycle": "outdoor", "radio": "audio", "speaker": "audio",
}  # fmt: skip
COLOURS = ("red", "blue", "green", "black", "white", "silver", "orange")
FAULTS = {
    "arrived broken": "normal", "does not turn on": "normal", "is the wrong size": "low", "is the wrong colour": "low",
    "gives off smoke": "urgent", "has sharp edges": "urgent", "makes a loud noise": "normal", "lacks a part": "normal",
}  # fmt: skip
WISHES = {
    "a refund": "I want my money back.",
    "a replacement": "Please send me another one.",
    "a repair": "Can you mend it?",
    "advice": "What should I do?",
}
GREETINGS = ("Hello,", "Good morning,", "Hi there,", "Dear team,")
MAILS = (
    "{greeting} order {order}: the {product} {fault}. {asks}",
    "{greeting} I am writing about my {product}, order {order}. It {fault}. {asks}",
    "{greeting} the {product} that I bought {fault}. {asks} My order is {order}.",
)


def row(rng: random.Random) -> dict[str, object]:
    """A mail and its ticket."""
    kind, fault, wish = rng.choice([*TEAMS]), rng.choice([*FAULTS]), rng.choice([*WISHES])
    product, order = f"{rng.choice(COLOURS)} {kind}", str(rng.randint(10_000, 99_999))
    mail = rng.choice(MAILS).format(
        greeting=rng.choice(GREETINGS), order=order, product=product, fault=fault, asks=WISHES[wish]
    )
    ticket = f"order {order} | {product} | {fault} | wants {wish} | team {TEAMS[kind]} | priority {FAULTS[fault]}"
    return {"messages": [{"role": "user", "content": mail}, {"role": "assistant", "content": ticket}]}


def rows(count: int, seed: int = 0) -> list[str]:
    """So many different ones, as lines of JSON; the same for the same seed."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[json.dumps(row(rng))] = None
    return list(found)


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
