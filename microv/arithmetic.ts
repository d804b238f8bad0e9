/**
 * Sums, products, quotients and shifts, simplified: the arithmetic part of `build.ts`, whose rules it uses and is used by.
 *
 * Sums are kept as linear combinations, so that what is added and taken away again disappears; where no carry can occur, a sum becomes a
 * concatenation.
 */

import { band, bor, concat, eq, extract, ite, sext } from "./build.ts";
import { arg, isZero, lows, lowZeros, pieces, sameWidth } from "./pieces.ts";
import { bv, isConst, mask, node, signed, type Term } from "./term.ts";

/** A word as a sum of multiples of terms plus a constant, modulo 2^width. */
interface Linear {
  readonly multiples: Map<Term, bigint>;
  constant: bigint;
}

/** Whether `a` is the low bits of a word of `width` bits, so that zeros after it make it a shift of that word. */
function isLowPart(a: Term, width: number): boolean {
  return a.op === "extract" && a.low === 0 && arg(a, 0).width === width;
}

function addTo(total: Linear, a: Term, factor: bigint): void {
  if (isConst(a)) {
    total.constant += a.value * factor;
  } else if (a.op === "add") {
    for (const part of a.args) addTo(total, part, factor);
  } else if (a.op === "mul" && isConst(arg(a, 1))) {
    addTo(total, arg(a, 0), factor * arg(a, 1).value);
  } else if (a.op === "concat" && a.args.length === 2 && isZero(arg(a, 1)) && isLowPart(arg(a, 0), a.width)) {
    addTo(total, arg(arg(a, 0), 0), factor << BigInt(arg(a, 1).width));
  } else {
    const multiple = BigInt.asUintN(a.width, (total.multiples.get(a) ?? 0n) + factor);
    if (multiple === 0n) total.multiples.delete(a);
    else total.multiples.set(a, multiple);
  }
}

function fromLinear(total: Linear, width: number): Term {
  const parts = [...total.multiples]
    .sort(([a], [b]) => a.id - b.id)
    .map(([term, factor]) => scaled(term, factor));
  const constant = bv(total.constant, width);
  if (parts.length === 0) return constant;
  if (!isZero(constant)) parts.push(constant);
  return parts.length === 1 ? (parts[0] as Term) : node("add", parts, width);
}

/** `a` times `factor`, with the power of two in the factor as zeros below. */
function scaled(a: Term, factor: bigint): Term {
  if (factor === 1n) return a;
  let zeros = 0;
  while (((factor >> BigInt(zeros)) & 1n) === 0n) zeros++;
  if (zeros === 0) return node("mul", [a, bv(factor, a.width)], a.width);
  const low = extract(a.width - 1 - zeros, 0, a);
  return concat(mul(low, bv(factor >> BigInt(zeros), low.width)), bv(0, zeros));
}

/** The sum of a linear form, with known low bits that no carry comes out of split off, and disjoint bits concatenated. */
export function sum(terms: readonly Term[]): Term {
  const width = (terms[0] as Term).width;
  const total: Linear = { multiples: new Map(), constant: 0n };
  for (const term of terms) {
    sameWidth("sum", term, terms[0] as Term);
    addTo(total, term, 1n);
  }
  const flat = fromLinear(total, width);
  if (flat.op !== "add") return flat;
  if (flat.args.length === 2) {
    const [a, b] = flat.args as [Term, Term];
    if (isConst(b) && a.op === "ite" && isConst(arg(a, 1)) && isConst(arg(a, 2))) {
      return ite(arg(a, 0), sum([arg(a, 1), b]), sum([arg(a, 2), b]));
    }
    const cuts = pieces(a, b);
    if (cuts.every(([high, low]) => isZero(extract(high, low, a)) || isZero(extract(high, low, b)))) {
      return bor(a, b);
    }
  }
  const { zeros, rough } = carryFree(flat.args);
  const cut = zeros === width ? 0 : Math.max(0, ...lows(rough).filter((low) => low <= zeros));
  if (cut === 0) return flat;
  return concat(sum(flat.args.map((part) => extract(width - 1, cut, part))), extract(cut - 1, 0, rough));
}

/** How many low bits are zero in all summands but one, and that one: no carry comes out of those bits. */
function carryFree(args: readonly Term[]): { zeros: number; rough: Term } {
  let [least, second] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  let rough = args[0] as Term;
  for (const part of args) {
    const zeros = lowZeros(part);
    if (zeros < least) {
      [least, second, rough] = [zeros, least, part];
    } else if (zeros < second) second = zeros;
  }
  return { zeros: Math.min(second, rough.width), rough };
}

/** Bits of a sum: what is below the first possible carry is taken from one summand, the rest is a shorter sum. */
export function extractSum(high: number, low: number, a: Term): Term {
  if (low === 0) return sum(a.args.map((part) => extract(high, 0, part)));
  const { zeros, rough } = carryFree(a.args);
  if (zeros === 0) return node("extract", [a], high - low + 1, { high, low });
  if (high < zeros) return extract(high, low, rough);
  const upper = sum(a.args.map((part) => extract(high, zeros, part)));
  if (low >= zeros) return extract(high - zeros, low - zeros, upper);
  return concat(upper, extract(zeros - 1, low, rough));
}

/** The sum of words of one width, modulo 2^width. */
export function add(...terms: Term[]): Term {
  if (terms.length === 0) throw new RangeError("sum of nothing");
  return sum(terms);
}

function times(a: Term, factor: bigint): Term {
  const total: Linear = { multiples: new Map(), constant: 0n };
  addTo(total, a, BigInt.asUintN(a.width, factor));
  const result = fromLinear(total, a.width);
  return result.op === "add" ? sum(result.args) : result;
}

export function neg(a: Term): Term {
  return times(a, -1n);
}

export function sub(a: Term, b: Term): Term {
  sameWidth("difference", a, b);
  return sum([a, neg(b)]);
}

/** The product modulo 2^width. */
export function mul(a: Term, b: Term): Term {
  sameWidth("product", a, b);
  if (isConst(b)) return isZero(b) ? b : times(a, b.value);
  if (isConst(a)) return mul(b, a);
  return node("mul", a.id < b.id ? [a, b] : [b, a], a.width);
}

/** Exponent of a constant power of two, if `a` is one. */
function logOfConst(a: Term): number | undefined {
  if (!isConst(a) || a.value === 0n || (a.value & (a.value - 1n)) !== 0n) return undefined;
  return a.value.toString(2).length - 1;
}

/** Unsigned quotient; all ones when `b` is zero. */
export function udiv(a: Term, b: Term): Term {
  sameWidth("quotient", a, b);
  if (isConst(a) && isConst(b)) return bv(b.value === 0n ? -1n : a.value / b.value, a.width);
  const log = logOfConst(b);
  return log === undefined ? node("udiv", [a, b], a.width) : lshr(a, bv(log, a.width));
}

/** Unsigned remainder; `a` when `b` is zero. */
export function urem(a: Term, b: Term): Term {
  sameWidth("remainder", a, b);
  if (isConst(a) && isConst(b)) return bv(b.value === 0n ? a.value : a.value % b.value, a.width);
  const log = logOfConst(b);
  return log === undefined ? node("urem", [a, b], a.width) : band(a, bv(mask(log), a.width));
}

/** Signed quotient, rounded toward zero; by zero: 1 for a negative `a`, else -1. */
export function sdiv(a: Term, b: Term): Term {
  sameWidth("quotient", a, b);
  if (isConst(a) && isConst(b)) return bv(sdivValue(a.value, b.value, a.width), a.width);
  return node("sdiv", [a, b], a.width);
}

/** Signed remainder, with the sign of `a`; `a` when `b` is zero. */
export function srem(a: Term, b: Term): Term {
  sameWidth("remainder", a, b);
  if (isConst(a) && isConst(b)) return bv(sremValue(a.value, b.value, a.width), a.width);
  return node("srem", [a, b], a.width);
}

export function sdivValue(a: bigint, b: bigint, width: number): bigint {
  const dividend = signed(a, width);
  if (b === 0n) return dividend < 0n ? 1n : -1n;
  return dividend / signed(b, width);
}

export function sremValue(a: bigint, b: bigint, width: number): bigint {
  return b === 0n ? a : signed(a, width) % signed(b, width);
}

type Shift = "shl" | "lshr" | "ashr";

function shift(op: Shift, a: Term, amount: Term): Term {
  sameWidth("shift", a, amount);
  if (isZero(amount)) return a;
  if (amount.op === "ite" && amount.branching <= 8 && isConst(arg(amount, 1)) && isConst(arg(amount, 2))) {
    return ite(arg(amount, 0), shift(op, a, arg(amount, 1)), shift(op, a, arg(amount, 2)));
  }
  if (!isConst(amount)) return node(op, [a, amount], a.width);
  const count = amount.value >= BigInt(a.width) ? a.width : Number(amount.value);
  if (op === "shl") {
    return count === a.width ? bv(0, a.width) : concat(extract(a.width - 1 - count, 0, a), bv(0, count));
  }
  if (op === "lshr") {
    return count === a.width ? bv(0, a.width) : concat(bv(0, count), extract(a.width - 1, count, a));
  }
  return sext(extract(a.width - 1, Math.min(count, a.width - 1), a), a.width);
}

export function shl(a: Term, amount: Term): Term {
  return shift("shl", a, amount);
}

export function lshr(a: Term, amount: Term): Term {
  return shift("lshr", a, amount);
}

export function ashr(a: Term, amount: Term): Term {
  return shift("ashr", a, amount);
}

/** Equality of sums: what occurs on both sides is cancelled, negative multiples change sides, the oldest term stands on the left. */
export function eqLinear(a: Term, b: Term): Term {
  const difference: Linear = { multiples: new Map(), constant: 0n };
  addTo(difference, a, 1n);
  addTo(difference, b, -1n);
  const terms = [...difference.multiples].sort(([x], [y]) => x.id - y.id);
  const half = 1n << BigInt(a.width - 1);
  const flip = terms.length > 0 && (terms[0] as [Term, bigint])[1] > half;
  const left: Linear = { multiples: new Map(), constant: 0n };
  const right: Linear = { multiples: new Map(), constant: flip ? difference.constant : -difference.constant };
  for (const [term, factor] of terms) {
    const multiple = BigInt.asUintN(a.width, flip ? -factor : factor);
    if (multiple <= half) left.multiples.set(term, multiple);
    else right.multiples.set(term, BigInt.asUintN(a.width, -multiple));
  }
  const x = fromLinear(left, a.width);
  const y = fromLinear(right, a.width);
  if (x.op !== "add" && y.op !== "add") return eq(x, y);
  return node("eq", [x, y], 0);
}
