"""`python -m hearth_management.tokenizing TOKENIZER.json`: count the tokens of texts on standard input.

A row a line, each a JSON list of texts. The result, as JSON, goes to standard output; why it cannot be had to standard
error, with exit code 1.
"""

import json
import sys
from collections.abc import Iterable
from itertools import islice

from hearth_contracts.base import Frozen
from tokenizers import Tokenizer

AT_ONCE = 1000
"""Rows."""


class Counted(Frozen):
    """What the texts came to."""

    tokens: int
    longest_row: int


def count(tokenizer: Tokenizer, rows: Iterable[list[str]]) -> Counted:
    """Tokens of all rows, without those that a tokenizer adds around a text."""
    tokens = longest = 0
    left = iter(rows)
    while batch := list(islice(left, AT_ONCE)):
        texts = [text for row in batch for text in row]
        lengths = iter([len(each) for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False)])
        for row in batch:
            length = sum(next(lengths) for _ in row)
            tokens, longest = tokens + length, max(longest, length)
    return Counted(tokens=tokens, longest_row=longest)


def main(path: str) -> int:
    """Count; the exit code."""
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises no class of its own
        sys.stderr.write(f"{error}\n")
        return 1
    tokenizer.no_truncation()
    sys.stdout.write(count(tokenizer, map(json.loads, sys.stdin)).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
