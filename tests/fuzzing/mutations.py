"""Changes made to good inputs: bytes, tokens of a text, and keys and values of tables. Seeded: the same draw, the same input."""

from __future__ import annotations

import copy
import json
import re
from datetime import date
from random import Random
from typing import Any

TOKENS = re.compile(r"\s+|\w+|.", re.DOTALL)
NUMBERS: list[Any] = [
    *(0, -1, 1, 2, 3, 7, 255, 10**6, 2**31, 10**9, 2**63, 10**18, 10**40, -(10**18)),
    *(0.0, -0.5, 0.5, 1.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
]
TEXTS: list[Any] = [
    *("", " ", "x", "task", "digits", "mnist1d", "mlp", "sgd", "none", "batch", "a" * 3000, "\x1b[31mred\x1b[0m"),
    *("../../x", "/etc/passwd", "folder/../..", "folder/", "folder/a", "a/b/c", ":", "a:", ":b", "..:x", ".a:b"),
    *(
        "nowhere:thing",
        "json:dumps",
        "pathlib:Path",
        "torch.nn:Linear",
        "[bold]x[/bold]",
        "{}",
        "%s",
        "é☃\u202e",
        "\x00",
        "NaN",
        "null",
    ),
]
OTHERS: list[Any] = [
    *(
        True,
        False,
        [],
        [0],
        [-1],
        [1, 2, 3],
        [3, 8, 8],
        [1, 8, 8],
        [0, 0, 0],
        [10**9],
        [[1]],
        [[]],
        ["x"],
        ["digits", 5],
    ),
    *({}, {"a": 1}, {"from": 1, "to": 2}, {"source": "digits"}, [{"source": "digits", "classes": [0, 99]}], [None]),
    *(date(2024, 5, 17), [True], [1.5], list(range(10)), [0] * 10, [list(range(3))] * 3, {"name": "x", "": 0}),
]
WORDS = [
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    "==",
    ".",
    ",",
    '"',
    '"""',
    "'",
    "#",
    "\n",
    "inf",
    "nan",
    "true",
    "1e999",
    "\x00",
    "\ufeff",
    "0x",
    "é",
    "-",
]


def value(draw: Random) -> Any:
    """Return a value that somebody may write where another was meant."""
    return draw.choice(draw.choice((NUMBERS, TEXTS, OTHERS)))


def near(draw: Random, good: Any) -> Any:
    """Return a value of about the kind of a good one: what passes the first look and may fail the second."""
    if isinstance(good, bool):
        return not good
    if isinstance(good, int | float):
        return draw.choice([*NUMBERS, good * 2, good + 1, -good, float(good), str(good), [good]])
    if isinstance(good, str):
        return draw.choice([*TEXTS, good + " ", good.upper(), good[:-1], good + "/x", [good]])
    if isinstance(good, list):
        changed = [*good]
        match draw.randrange(5):
            case 0:
                changed += [value(draw)]
            case 1 if changed:
                changed.pop(draw.randrange(len(changed)))
            case 2 if changed:
                at = draw.randrange(len(changed))
                changed[at] = near(draw, changed[at])
            case 3:
                changed += changed
            case _:
                draw.shuffle(changed)
        return changed
    return value(draw)


def bytes_changed(draw: Random, good: bytes) -> bytes:
    """Return bytes with up to eight places turned, cut, doubled, emptied or put in."""
    found = bytearray(good)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(len(found) + 1)
        length = draw.choice((1, 1, 2, 4, 8, 64, 512))
        match draw.randrange(8):
            case 0 | 1 | 2 if at < len(found):
                found[at] ^= 1 << draw.randrange(8)
            case 3 if at < len(found):
                found[at : at + length] = draw.randbytes(len(found[at : at + length]))
            case 4:
                del found[at:]
            case 5:
                del found[at : at + length]
            case 6:
                found[at:at] = draw.randbytes(length)
            case _:
                found[at : at + length] = bytes([draw.choice((0, 0xFF, 0x7F, 0x80))]) * len(found[at : at + length])
    return bytes(found)


def tokens_changed(draw: Random, good: str) -> str:
    """Return a text with up to four of its words and signs left out, doubled, exchanged or replaced."""
    found = TOKENS.findall(good)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(found)) if found else 0
        match draw.randrange(6):
            case 0:
                del found[at : at + draw.choice((1, 1, 3, 20))]
            case 1 if found:
                found.insert(at, found[draw.randrange(len(found))])
            case 2 if found:
                other = draw.randrange(len(found))
                found[at], found[other] = found[other], found[at]
            case 3 if found:
                found[at] = found[at] * draw.choice((2, 3, 50, 3000))
            case 4 if found:
                found[at] = str(value(draw))
            case _:
                found.insert(at, draw.choice(WORDS) * draw.choice((1, 1, 2, 4000)))
    return "".join(found)


def tables_changed(draw: Random, good: dict[str, Any]) -> dict[str, Any]:
    """Return nested tables with up to three keys renamed, left out, added or moved, or values replaced."""
    found: dict[str, Any] = copy.deepcopy(good)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        table, key = _place(draw, found)
        match draw.randrange(8):
            case 0 if key is not None:
                del table[key]
            case 1 if key is not None:
                table[_renamed(draw, key)] = table.pop(key)
            case 2:
                table[draw.choice(("x", "", "name", "source", "n", "train", "a.b", "é", "__class__"))] = value(draw)
            case 3 if key is not None:
                found[key] = table[key]
            case 4 if key is not None:
                table[key] = value(draw)
            case _ if key is not None:
                table[key] = near(draw, table[key])
    return found


def _place(draw: Random, table: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    if not table:
        return table, None
    key = draw.choice(sorted(table))
    if isinstance(table[key], dict) and draw.random() < 0.85:
        return _place(draw, table[key])
    return table, key


def _renamed(draw: Random, key: str) -> str:
    return draw.choice((key[:-1], key + "s", key.upper(), key + " ", f"{key}.{key}", key[::-1]))


def toml_of(tables: dict[str, Any]) -> str:
    """Return tables as TOML."""
    flat = [f"{_key(key)} = {toml_value(item)}" for key, item in tables.items() if not isinstance(item, dict)]
    nested = [
        f"[{_key(key)}]\n" + "\n".join(f"{_key(name)} = {toml_value(inner)}" for name, inner in item.items())
        for key, item in tables.items()
        if isinstance(item, dict)
    ]
    return "\n".join([*flat, *nested]) + "\n"


def toml_value(item: Any) -> str:
    """Return a value as TOML writes it."""
    match item:
        case bool():
            return "true" if item else "false"
        case float():
            return repr(item)
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {toml_value(inner)}" for key, inner in item.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(toml_value(inner) for inner in item) + "]"
        case date():
            return item.isoformat()
        case None:
            return '"none"'
        case str():
            return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(item)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
