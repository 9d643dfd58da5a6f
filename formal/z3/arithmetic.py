"""Arithmetic of the wire format, proved for all values: packet numbers, ACK ranges, varints.

Each function below says in bit vectors what a function of crates/jsp-wire says in Rust; the vectors of
the repository are run through it first, so that the two cannot drift apart unseen. A claim holds when
its negation has no solution. Each claim has mutants, one rule changed, which must have one.

One line of JSON is printed for each claim and each mutant.
"""

import json
import pathlib
import sys
import time

from z3 import And, BitVec, BitVecVal, If, LShR, Not, Or, Solver, UGE, UGT, ULE, ULT
from z3 import sat, simplify, unsat

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "vectors"
MAX = (1 << 62) - 1


def num(value):
    return BitVecVal(value, 64)


def saturating_add(a, b):
    return If(ULT(a + b, a), num(2**64 - 1), a + b)


def saturating_sub(a, b):
    return If(ULT(a, b), num(0), a - b)


def distance(a, b):
    return If(UGE(a, b), a - b, b - a)


# Packet numbers: crates/jsp-wire/src/pn.rs


def pn_len(number, acked, mutant=""):
    """Bytes that a sender takes; `acked` is -1 as a bit vector where nothing is acknowledged."""
    none = acked == num(2**64 - 1)
    unacked = If(none, saturating_add(number, num(1)), saturating_sub(number, acked))
    shift = 1 if mutant == "the whole window is used" else 0
    limits = [1 << (7 + shift), 1 << (15 + shift), 1 << (23 + shift)]
    return If(
        ULT(unacked, num(limits[0])),
        num(1),
        If(ULT(unacked, num(limits[1])), num(2), If(ULT(unacked, num(limits[2])), num(3), num(4))),
    )


def pn_expand(low, size, expected, mutant=""):
    """What a receiver completes the low `size` bytes to; `size` is a plain number."""
    window = num(1 << (8 * size))
    half = num(1 << (8 * size - 1))
    mask = window - 1
    candidate = (expected & ~mask) | (low & mask)
    below = ULE(saturating_add(candidate, half), expected)
    if mutant == "the lower of two that are equally close":
        below = ULT(saturating_add(candidate, half), expected)
    top = ULT(candidate, saturating_add(saturating_sub(num(MAX), window), num(1)))
    if mutant == "numbers beyond the last":
        top = ULT(candidate, num(MAX))
    above = Or(UGT(candidate, saturating_add(expected, half)), UGT(candidate, num(MAX)))
    if mutant == "nothing takes it back from beyond the last":
        above = UGT(candidate, saturating_add(expected, half))
    bottom = UGE(candidate, window)
    if mutant == "numbers below the first":
        bottom = UGE(candidate, num(0))
    return If(
        And(below, top),
        saturating_add(candidate, window),
        If(And(above, bottom), candidate - window, candidate),
    )


def closest(size):
    """WIRE-9: no number with these low bytes is closer, and of two the higher is taken."""

    def claim(mutant):
        expected, low, other = (BitVec(name, 64) for name in ("expected", "low", "other"))
        mask = num((1 << (8 * size)) - 1)
        found = pn_expand(low, size, expected, mutant)
        nearer = ULT(distance(other, expected), distance(found, expected))
        tie = And(distance(other, expected) == distance(found, expected), UGT(other, found))
        # What is expected is one above a number that was received.
        given = And(ULE(expected, num(MAX + 1)), ULE(low, mask))
        given = And(given, ULE(other, num(MAX)), other & mask == low)
        wrong = Or(UGT(found, num(MAX)), found & mask != low, nearer, tie)
        return given, wrong

    return claim


def understood(size):
    """WIRE-8 with WIRE-9: what is sent is completed to itself by whoever has seen what was
    acknowledged, and anything up to the number itself."""

    def claim(mutant):
        number, acked, expected = (BitVec(name, 64) for name in ("number", "acked", "expected"))
        none = acked == num(2**64 - 1)
        mask = num((1 << (8 * size)) - 1)
        given = And(ULE(number, num(MAX)), Or(none, ULT(acked, number)))
        given = And(given, pn_len(number, acked, mutant) == num(size), ULE(expected, number))
        given = And(given, UGE(expected, If(none, num(0), acked + 1)))
        if size == 4:
            # The window of four bytes; more than 2^31 numbers are never under way at once.
            unacked = If(none, number + 1, number - acked)
            most = 1 << (32 if mutant == "too many under way" else 31)
            given = And(given, ULT(unacked, num(most)))
        return given, pn_expand(number & mask, size, expected, mutant) != number

    return claim


# ACK ranges: crates/jsp-wire/src/frame/ack.rs


def step(low, gap, run, mutant=""):
    """The next range below one that starts at `low`: whether there is one, its ends."""
    after_gap = low - gap
    high = after_gap - (1 if mutant == "ranges touch" else 2)
    start = high - run
    checks = [UGE(low, gap), UGE(after_gap, num(2)), UGE(high, run)]
    if mutant == "a gap is not checked":
        checks = checks[1:]
    if mutant == "a run is not checked":
        checks = checks[:2]
    return And(*checks), start, high


def ranges_descend(mutant):
    """WIRE-18: a range that is accepted lies within 0 and the one before, with a number between."""
    low, gap, run = (BitVec(name, 64) for name in ("low", "gap", "run"))
    accepted, start, high = step(low, gap, run, mutant)
    given = And(ULE(low, num(MAX)), ULE(gap, num(MAX)), ULE(run, num(MAX)), accepted)
    return given, Not(And(ULE(start, high), ULT(high + 1, low), ULT(high, low)))


def ranges_return(mutant):
    """What the writer makes of a range is read as the same range."""
    low, next_low, next_high = (BitVec(name, 64) for name in ("low", "next_low", "next_high"))
    gap = low - next_high - 2
    run = next_high - next_low
    written = And(UGE(low, next_high), UGE(low - next_high, num(2)), UGE(next_high, next_low))
    if mutant == "a range that touches is written":
        written = UGE(next_high, next_low)
    accepted, start, high = step(low, gap, run)
    given = And(ULE(low, num(MAX)), ULE(next_high, num(MAX)), written)
    return given, Not(And(accepted, start == next_low, high == next_high, ULE(gap, num(MAX))))


# Varints: crates/jsp-wire/src/varint.rs


def varint_write(value, mutant=""):
    """Length in bytes (0 for what is refused), and the bytes from the left of a 64-bit word."""
    two = (1 << 14) + (1 if mutant == "a value too many in two bytes" else 0)
    mark = num(0x4000 if mutant == "the mark of two bytes in four" else 0x8000_0000)
    return (
        If(
            ULT(value, num(1 << 6)),
            num(1),
            If(
                ULT(value, num(two)),
                num(2),
                If(ULT(value, num(1 << 30)), num(4), If(ULE(value, num(MAX)), num(8), num(0))),
            ),
        ),
        If(
            ULT(value, num(1 << 6)),
            value << 56,
            If(
                ULT(value, num(two)),
                ((value | num(0x4000)) & num(0xFFFF)) << 48,
                If(
                    ULT(value, num(1 << 30)),
                    (value | mark) << 32,
                    value | num(0xC000_0000_0000_0000),
                ),
            ),
        ),
    )


def varint_read(word):
    """Length in bytes and value of the varint at the left of a 64-bit word."""
    form = LShR(word, num(62))
    return (
        num(1) << form,
        If(
            form == 0,
            LShR(word, num(56)),
            If(
                form == 1,
                LShR(word, num(48)) & num(0x3FFF),
                If(form == 2, LShR(word, num(32)) & num(0x3FFF_FFFF), word & num(MAX)),
            ),
        ),
    )


def varints_return(mutant):
    """Each value up to 2^62 - 1 is read as it was written, from as many bytes; no other is written."""
    value = BitVec("value", 64)
    size, word = varint_write(value, mutant)
    read_size, read = varint_read(word)
    good = And(size != 0, read_size == size, read == value)
    return And(), Not(If(ULE(value, num(MAX)), good, size == 0))


def varints_are_short(mutant):
    """No byte string of another length that is read as the value is shorter than what is written."""
    value, word = BitVec("value", 64), BitVec("word", 64)
    size, _ = varint_write(value, mutant)
    if mutant == "one byte for fewer values":
        size = If(value == num(63), num(2), size)
    read_size, read = varint_read(word)
    return And(ULE(value, num(MAX)), read == value), ULT(read_size, size)


CLAIMS = [
    *[(f"pn {n}: the closest number", closest(n), [
        "the lower of two that are equally close",
        "numbers beyond the last",
        "nothing takes it back from beyond the last",
        "numbers below the first",
    ]) for n in (1, 2, 3, 4)],
    *[(f"pn {n}: what is sent is understood", understood(n), ["the whole window is used"] if n < 4 else [
        "too many under way",
    ]) for n in (1, 2, 3, 4)],
    ("ack: ranges descend to 0", ranges_descend, [
        "a gap is not checked",
        "a run is not checked",
        "ranges touch",
    ]),
    ("ack: ranges return", ranges_return, ["a range that touches is written"]),
    ("varint: values return", varints_return, [
        "a value too many in two bytes",
        "the mark of two bytes in four",
    ]),
    ("varint: the shortest form", varints_are_short, ["one byte for fewer values"]),
]


def check(name, claim, mutant):
    """Prints the line of one claim or mutant; answers whether it is as expected."""
    start = time.monotonic()
    solver = Solver()
    solver.set("timeout", 120_000)
    given, wrong = claim(mutant)
    solver.add(given, wrong)
    verdict = solver.check()
    found = "holds" if verdict == unsat else "breaks" if verdict == sat else "unknown"
    expected = "breaks" if mutant else "holds"
    line = {"model": name, "mutant": mutant, "expected": expected, "found": found}
    if found == "breaks":
        model = solver.model()
        line["example"] = {str(var): str(model[var]) for var in model}
    line["seconds"] = time.monotonic() - start
    print(json.dumps(line), flush=True)
    return found == expected


def concrete(term):
    return simplify(term).as_long()


def matches_vectors():
    """Runs the vectors of the repository through the functions above."""
    start, differ = time.monotonic(), []
    numbers = json.loads((VECTORS / "wire-packet-number.json").read_text())
    for case in numbers["received"]:
        found = pn_expand(num(int(case["low"])), case["bytes"], num(int(case["expected"])))
        differ += [case] * (concrete(found) != int(case["number"]))
    for case in numbers["sent"]:
        acked = case["largest_acknowledged"]
        acked = num(2**64 - 1 if acked is None else int(acked))
        differ += [case] * (concrete(pn_len(num(int(case["number"])), acked)) != case["bytes"])
    for case in json.loads((VECTORS / "wire-varint.json").read_text())["cases"]:
        data = bytes.fromhex(case["hex"])
        size, value = varint_read(num(int.from_bytes(data.ljust(8, b"\0"), "big")))
        differ += [case] * ((concrete(size), concrete(value)) != (len(data), int(case["value"])))
    count = len(numbers["received"]) + len(numbers["sent"])
    found = "holds" if not differ and count else f"breaks: {differ}"
    line = {"model": "vectors", "mutant": "", "expected": "holds", "found": found}
    print(json.dumps(line | {"seconds": time.monotonic() - start}), flush=True)
    return found == "holds"


def main():
    good = matches_vectors()
    for name, claim, mutants in CLAIMS:
        for mutant in ["", *mutants]:
            good &= check(name, claim, mutant)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
