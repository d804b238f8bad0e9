/**
 * Smart constructors: the only way to make terms, and the simplifier.
 *
 * Code that walks page tables shifts, masks and adds addresses. The rules here turn such words into concatenations of pieces whose
 * equality is decided piece by piece, which is what keeps queries small: a mask is a cut, an aligned `or` or `add` is a
 * concatenation, a comparison with a constant moves into both arms of a choice. Each rule is an identity of unsigned arithmetic
 * modulo 2^width; `test/build.test.ts` compares them with plain evaluation on random formulas.
 *
 * Words of different widths never mix: a mismatch throws a `RangeError` that names both widths.
 */

import { eqLinear, extractSum, mul } from "./arithmetic.ts";
import { Facts } from "./facts.ts";
import { arg, isOnes, isZero, lowZeros, pieces, sameWidth } from "./pieces.ts";
import { bool, bv, FALSE, isConst, node, type Term, TRUE } from "./term.ts";

export { add, ashr, lshr, mul, neg, sdiv, shl, srem, sub, udiv, urem } from "./arithmetic.ts";

/** Rules that push an operator into the arms of a choice stop below this many nested choices. */
const PUSH_LIMIT = 200;

// ---------------------------------------------------------------------------------------------------------------- Booleans

export function not(a: Term): Term {
  if (a.width !== 0) throw new RangeError(`not of a word of ${a.width} bits; use bnot`);
  if (a === TRUE) return FALSE;
  if (a === FALSE) return TRUE;
  return a.op === "not" ? arg(a, 0) : node("not", [a], 0);
}

/** Conjunction; none gives true. Takes nested conjunctions apart and lets each conjunct simplify the others. */
export function and(...terms: Term[]): Term {
  const facts = new Facts();
  for (const term of terms) if (!facts.add(term)) return FALSE;
  for (let again = true; again; ) {
    again = false;
    for (const term of [...facts.terms]) {
      if (term.op !== "not") continue;
      const denied = arg(term, 0);
      facts.remove(term);
      const truth = facts.decide(denied);
      if (truth === true) return FALSE;
      if (truth === false) continue;
      if (denied.op === "and") {
        const rest = denied.args.filter((part) => facts.decide(part) !== true);
        if (rest.length < denied.args.length) {
          if (!facts.add(not(and(...rest)))) return FALSE;
          again = true;
          continue;
        }
      }
      if (!facts.add(term)) return FALSE;
    }
  }
  const list = [...facts.terms].sort((a, b) => a.id - b.id);
  if (list.length === 0) return TRUE;
  return list.length === 1 ? (list[0] as Term) : node("and", list, 0);
}

function conjuncts(term: Term): readonly Term[] {
  return term.op === "and" ? term.args : [term];
}

function disjuncts(term: Term): readonly Term[] {
  if (term.op === "not" && arg(term, 0).op === "and") return arg(term, 0).args.map(not);
  return [term];
}

/** Disjunction; none gives false. What all disjuncts have in common is taken out: `(p & q) | (p & !q)` is `p`. */
export function or(...terms: Term[]): Term {
  const list = [...new Set(terms.flatMap(disjuncts))].filter((term) => term !== FALSE);
  if (list.includes(TRUE)) return TRUE;
  if (list.length > 1) {
    let common = new Set(conjuncts(list[0] as Term));
    for (const term of list.slice(1)) {
      if (common.size === 0) break;
      const other = new Set(conjuncts(term));
      common = new Set([...common].filter((part) => other.has(part)));
    }
    if (common.size > 0) {
      const rest = list.map((term) => and(...conjuncts(term).filter((part) => !common.has(part))));
      return and(...common, or(...rest));
    }
  }
  return not(and(...list.map(not)));
}

export function implies(a: Term, b: Term): Term {
  return not(and(a, not(b)));
}

/** Whether `a` makes the condition of the choice `b` true or false, so that the choice is decided under `a`. */
function under(a: Term, b: Term): Term {
  if (b.op !== "ite") return b;
  const facts = new Facts();
  facts.add(a);
  let term = b;
  while (term.op === "ite") {
    const truth = facts.decide(arg(term, 0));
    if (truth === undefined) break;
    term = arg(term, truth ? 1 : 2);
  }
  return term;
}

/** `a` if `condition`, else `b`; both Booleans or both words of one width. */
export function ite(condition: Term, a: Term, b: Term): Term {
  sameWidth("choice", a, b);
  if (condition === TRUE || a === b) return a;
  if (condition === FALSE) return b;
  if (condition.op === "not") return ite(arg(condition, 0), b, a);
  if (a.width === 0) {
    if (a === TRUE) return or(condition, b);
    if (a === FALSE) return and(not(condition), b);
    if (b === TRUE) return implies(condition, a);
    if (b === FALSE) return and(condition, a);
    if (a === not(b)) return eq(condition, a);
  }
  const x = under(condition, a);
  const y = under(not(condition), b);
  if (x !== a || y !== b) return ite(condition, x, y);
  if (x.op === "ite" && arg(x, 2) === y) return ite(and(condition, arg(x, 0)), arg(x, 1), y);
  if (x.op === "ite" && arg(x, 1) === y) return ite(implies(condition, arg(x, 0)), y, arg(x, 2));
  if (y.op === "ite" && arg(y, 1) === x) return ite(or(condition, arg(y, 0)), x, arg(y, 2));
  if (y.op === "ite" && arg(y, 2) === x) return ite(and(not(condition), arg(y, 0)), arg(y, 1), x);
  if (x.op === "concat" || y.op === "concat") return itePieces(condition, x, y);
  return node("ite", [condition, x, y], x.width);
}

/** Takes the pieces that both arms have in common out of the choice. */
function itePieces(condition: Term, x: Term, y: Term): Term {
  const cuts = pieces(x, y);
  const equal = cuts.map(([high, low]) => extract(high, low, x) === extract(high, low, y));
  if (!equal.includes(true)) return node("ite", [condition, x, y], x.width);
  const parts: Term[] = [];
  for (let i = 0; i < cuts.length; i++) {
    const [high, first] = cuts[i] as [number, number];
    if (equal[i]) {
      parts.push(extract(high, first, x));
      continue;
    }
    while (equal[i + 1] === false) i++;
    const low = (cuts[i] as [number, number])[1];
    parts.push(node("ite", [condition, extract(high, low, x), extract(high, low, y)], high - low + 1));
  }
  return concat(...parts);
}

// ------------------------------------------------------------------------------------------------------- pieces of a word

/** The words one after the other, the first most significant. */
export function concat(...terms: Term[]): Term {
  const list: Term[] = [];
  const push = (term: Term): void => {
    if (term.width === 0) throw new RangeError("concatenation of a Boolean; use ofBool");
    if (term.op === "concat") {
      for (const part of term.args) push(part);
      return;
    }
    const last = list.at(-1);
    const joined = last && join(last, term);
    if (!joined) {
      list.push(term);
      return;
    }
    list.pop();
    push(joined);
  };
  for (const term of terms) push(term);
  if (list.length === 0) throw new RangeError("concatenation of nothing");
  if (list.length === 1) return list[0] as Term;
  let width = 0;
  for (const part of list) width += part.width;
  return node("concat", list, width);
}

/** Two neighbouring pieces as one, when there is a simpler term for that. */
function join(a: Term, b: Term): Term | undefined {
  if (isConst(a) && isConst(b)) return bv((a.value << BigInt(b.width)) | b.value, a.width + b.width);
  if (a.op === "extract" && b.op === "extract" && arg(a, 0) === arg(b, 0) && a.low === b.high + 1) {
    return extract(a.high, b.low, arg(a, 0));
  }
  if (a.op === "ite" && b.op === "ite" && arg(a, 0) === arg(b, 0)) {
    return node(
      "ite",
      [arg(a, 0), concat(arg(a, 1), arg(b, 1)), concat(arg(a, 2), arg(b, 2))],
      a.width + b.width,
    );
  }
  return undefined;
}

/** Results of rules that go down both arms of a choice or both sides of an operator: without them shared terms cost exponential time. */
const memo = new Map<string, Term>();

function remembered(key: string, make: () => Term): Term {
  let result = memo.get(key);
  if (!result) {
    result = make();
    memo.set(key, result);
  }
  return result;
}

/** Bits `high..low` (inclusive) of `a`. Throws a `RangeError` when they are not bits of `a`. */
export function extract(high: number, low: number, a: Term): Term {
  if (!(low >= 0 && high >= low && high < a.width)) {
    throw new RangeError(`bits ${high}..${low} of a word of ${a.width} bits`);
  }
  if (high - low + 1 === a.width) return a;
  if (isConst(a)) return bv(a.value >> BigInt(low), high - low + 1);
  if (a.op === "extract") return extract(high + a.low, low + a.low, arg(a, 0));
  if (a.args.length === 0 || a.op === "apply") return node("extract", [a], high - low + 1, { high, low });
  return remembered(`${a.id}[${high}:${low}]`, () => extractFrom(high, low, a));
}

/** Bits of a compound term. */
function extractFrom(high: number, low: number, a: Term): Term {
  const width = high - low + 1;
  switch (a.op) {
    case "concat": {
      const parts: Term[] = [];
      let top = a.width;
      for (const part of a.args) {
        const base = top - part.width;
        if (base <= high && top > low) {
          parts.push(extract(Math.min(high, top - 1) - base, Math.max(low, base) - base, part));
        }
        top = base;
      }
      return concat(...parts);
    }
    case "ite":
      if (a.branching > PUSH_LIMIT) break;
      return ite(arg(a, 0), extract(high, low, arg(a, 1)), extract(high, low, arg(a, 2)));
    case "bnot":
      return bnot(extract(high, low, arg(a, 0)));
    case "band":
    case "bor":
    case "bxor":
      return bitwise(a.op, extract(high, low, arg(a, 0)), extract(high, low, arg(a, 1)));
    case "add":
      return extractSum(high, low, a);
    case "mul":
      if (low === 0) return mul(extract(high, 0, arg(a, 0)), extract(high, 0, arg(a, 1)));
      break;
    case "sext": {
      const inner = arg(a, 0);
      if (high < inner.width) return extract(high, low, inner);
      if (low < inner.width) return sext(extract(inner.width - 1, low, inner), width);
      return sext(extract(inner.width - 1, inner.width - 1, inner), width);
    }
  }
  return node("extract", [a], width, { high, low });
}

/** `a` with zeros above, `width` bits in all. */
export function zext(a: Term, width: number): Term {
  if (width < a.width) throw new RangeError(`${a.width} bits do not extend to ${width}`);
  return width === a.width ? a : concat(bv(0, width - a.width), a);
}

/** `a` with copies of its sign bit above, `width` bits in all. */
export function sext(a: Term, width: number): Term {
  if (width < a.width) throw new RangeError(`${a.width} bits do not extend to ${width}`);
  if (width === a.width) return a;
  const half = 1n << BigInt(a.width - 1);
  if (a.max < half) return zext(a, width);
  if (a.min >= half) return concat(bv(-1, width - a.width), a);
  if (a.op === "sext") return sext(arg(a, 0), width);
  if (a.op === "ite" && a.branching <= PUSH_LIMIT) {
    return remembered(`${a.id} to ${width}`, () =>
      ite(arg(a, 0), sext(arg(a, 1), width), sext(arg(a, 2), width)),
    );
  }
  return node("sext", [a], width);
}

/** 1 if `condition`, else 0, in `width` bits. */
export function ofBool(condition: Term, width: number): Term {
  return ite(condition, bv(1, width), bv(0, width));
}

// ------------------------------------------------------------------------------------------------------------ bitwise logic

type Bitwise = "band" | "bor" | "bxor";

function bitwiseValue(op: Bitwise, a: bigint, b: bigint): bigint {
  return op === "band" ? a & b : op === "bor" ? a | b : a ^ b;
}

export function bnot(a: Term): Term {
  if (isConst(a)) return bv(~a.value, a.width);
  if (a.op === "bnot") return arg(a, 0);
  if (a.op === "concat") return concat(...a.args.map(bnot));
  return node("bnot", [a], a.width);
}

/** Whether `a` is a choice between constants, or one a constant pushes into without growing. */
function hasConstArm(a: Term): boolean {
  return a.op === "ite" && a.branching <= PUSH_LIMIT && (isConst(arg(a, 1)) || isConst(arg(a, 2)));
}

function bitwise(op: Bitwise, a: Term, b: Term): Term {
  sameWidth(op, a, b);
  if (isConst(b) && hasConstArm(a))
    return ite(arg(a, 0), bitwise(op, arg(a, 1), b), bitwise(op, arg(a, 2), b));
  if (isConst(a) && hasConstArm(b))
    return ite(arg(b, 0), bitwise(op, a, arg(b, 1)), bitwise(op, a, arg(b, 2)));
  const truthA = asBool(a);
  const truthB = asBool(b);
  if (truthA && truthB) {
    const truth =
      op === "band" ? and(truthA, truthB) : op === "bor" ? or(truthA, truthB) : not(eq(truthA, truthB));
    return ofBool(truth, a.width);
  }
  const cuts = pieces(a, b);
  if (cuts.length === 1) return bitwisePiece(op, a, b);
  return concat(...cuts.map(([high, low]) => bitwisePiece(op, extract(high, low, a), extract(high, low, b))));
}

function bitwisePiece(op: Bitwise, a: Term, b: Term): Term {
  if (isConst(a) && isConst(b)) return bv(bitwiseValue(op, a.value, b.value), a.width);
  if (isConst(a) || (!isConst(b) && b.id < a.id)) return bitwisePiece(op, b, a);
  if (isZero(b)) return op === "band" ? b : a;
  if (isOnes(b)) return op === "band" ? a : op === "bor" ? b : bnot(a);
  if (a === b) return op === "bxor" ? bv(0, a.width) : a;
  if (a === bnot(b)) return op === "band" ? bv(0, a.width) : bv(-1, a.width);
  if (isConst(b) && a.op === op && isConst(arg(a, 1))) {
    return bitwise(op, arg(a, 0), bv(bitwiseValue(op, arg(a, 1).value, b.value), a.width));
  }
  return node(op, [a, b], a.width);
}

/** The condition of which `a` is the 0/1 encoding, if it is one. */
function asBool(a: Term): Term | undefined {
  if (a.op !== "ite") return undefined;
  if (arg(a, 1).value === 1n && isZero(arg(a, 2)) && isConst(arg(a, 1))) return arg(a, 0);
  if (arg(a, 2).value === 1n && isZero(arg(a, 1)) && isConst(arg(a, 2))) return not(arg(a, 0));
  return undefined;
}

export function band(a: Term, b: Term): Term {
  return bitwise("band", a, b);
}

export function bor(a: Term, b: Term): Term {
  return bitwise("bor", a, b);
}

export function bxor(a: Term, b: Term): Term {
  return bitwise("bxor", a, b);
}

// -------------------------------------------------------------------------------------------------------------- comparisons

/** Whether two words are equal, when that is plain to see. */
function plainlyEqual(a: Term, b: Term): boolean | undefined {
  if (a === b) return true;
  return a.max < b.min || b.max < a.min ? false : undefined;
}

/** Equality of two Booleans or of two words. */
export function eq(a: Term, b: Term): Term {
  sameWidth("equality", a, b);
  if (a === b) return TRUE;
  if (a.width === 0) return eqBool(a, b);
  if (plainlyEqual(a, b) === false) return FALSE;
  if (isConst(a)) return eq(b, a);
  if (a.op === "ite" && b.op === "ite" && arg(a, 0) === arg(b, 0)) {
    const both = () => ite(arg(a, 0), eq(arg(a, 1), arg(b, 1)), eq(arg(a, 2), arg(b, 2)));
    return remembered(`${a.id} = ${b.id}`, both);
  }
  for (const [choice, other] of [
    [a, b],
    [b, a],
  ] as const) {
    if (choice.op !== "ite" || choice.branching > PUSH_LIMIT) continue;
    const [x, y] = [arg(choice, 1), arg(choice, 2)];
    const easy = isConst(other)
      ? isConst(x) || isConst(y)
      : plainlyEqual(x, other) !== undefined || plainlyEqual(y, other) !== undefined;
    if (easy) return remembered(`${a.id} = ${b.id}`, () => ite(arg(choice, 0), eq(x, other), eq(y, other)));
  }
  if (a.op === "bnot" && isConst(b)) return eq(arg(a, 0), bnot(b));
  if (a.op === "sext") {
    const inner = arg(a, 0);
    if (b.op === "sext" && arg(b, 0).width === inner.width) return eq(inner, arg(b, 0));
    if (isConst(b)) {
      const low = extract(inner.width - 1, 0, b);
      return sext(low, a.width) === b ? eq(inner, low) : FALSE;
    }
  }
  if (a.op === "concat" || b.op === "concat") {
    const cuts = isConst(b) ? pieces(a, a) : pieces(a, b);
    if (cuts.length > 1) {
      return and(...cuts.map(([high, low]) => eq(extract(high, low, a), extract(high, low, b))));
    }
  }
  if (a.op === "add" || b.op === "add") return eqLinear(a, b);
  if (a.width === 1 && isZero(b)) return not(eq(a, bv(1, 1)));
  return isConst(b) || a.id < b.id ? node("eq", [a, b], 0) : node("eq", [b, a], 0);
}

function eqBool(a: Term, b: Term): Term {
  if (a === TRUE) return b;
  if (b === TRUE) return a;
  if (a === FALSE) return not(b);
  if (b === FALSE) return not(a);
  if (a.op === "not" && b.op === "not") return eqBool(arg(a, 0), arg(b, 0));
  if (a.op === "not") return arg(a, 0) === b ? FALSE : not(eqBool(arg(a, 0), b));
  if (b.op === "not") return arg(b, 0) === a ? FALSE : not(eqBool(a, arg(b, 0)));
  return a.id < b.id ? node("eq", [a, b], 0) : node("eq", [b, a], 0);
}

export function ne(a: Term, b: Term): Term {
  return not(eq(a, b));
}

/** Unsigned less-than. */
export function ult(a: Term, b: Term): Term {
  sameWidth("comparison", a, b);
  if (a === b || a.min >= b.max) return FALSE;
  if (a.max < b.min) return TRUE;
  if (isConst(b) && hasConstArm(a)) return ite(arg(a, 0), ult(arg(a, 1), b), ult(arg(a, 2), b));
  if (isConst(a) && hasConstArm(b)) return ite(arg(b, 0), ult(a, arg(b, 1)), ult(a, arg(b, 2)));
  if (isZero(a)) return ne(b, a);
  if (isConst(b) && b.value === 1n) return eq(a, bv(0, a.width));
  if (isOnes(b)) return ne(a, b);
  const zeros = isConst(b) ? lowZeros(b) : Math.min(lowZeros(a), lowZeros(b));
  if (zeros > 0) return ult(extract(a.width - 1, zeros, a), extract(a.width - 1, zeros, b));
  const ones = isConst(a) ? lowZeros(bnot(a)) : 0;
  if (ones > 0) return ult(extract(a.width - 1, ones, a), extract(a.width - 1, ones, b));
  const [high, low] = pieces(a, b)[0] as [number, number];
  if (low > 0 && extract(high, low, a) === extract(high, low, b)) {
    return ult(extract(low - 1, 0, a), extract(low - 1, 0, b));
  }
  return node("ult", [a, b], 0);
}

export function ule(a: Term, b: Term): Term {
  return not(ult(b, a));
}

export function ugt(a: Term, b: Term): Term {
  return ult(b, a);
}

export function uge(a: Term, b: Term): Term {
  return not(ult(a, b));
}

/** Whether the sign bit of `a` is known. */
function knownSign(a: Term): boolean | undefined {
  const half = 1n << BigInt(a.width - 1);
  if (a.max < half) return false;
  return a.min >= half ? true : undefined;
}

/** Signed less-than. */
export function slt(a: Term, b: Term): Term {
  sameWidth("comparison", a, b);
  if (a === b) return FALSE;
  const signA = knownSign(a);
  const signB = knownSign(b);
  if (signA !== undefined && signB !== undefined) return signA === signB ? ult(a, b) : bool(signA);
  if (isConst(b) && hasConstArm(a)) return ite(arg(a, 0), slt(arg(a, 1), b), slt(arg(a, 2), b));
  if (isConst(a) && hasConstArm(b)) return ite(arg(b, 0), slt(a, arg(b, 1)), slt(a, arg(b, 2)));
  const top = a.width - 1;
  if (isZero(b)) return eq(extract(top, top, a), bv(1, 1));
  if (isOnes(a)) return eq(extract(top, top, b), bv(0, 1));
  if (a.op === "sext" && b.op === "sext" && arg(a, 0).width === arg(b, 0).width)
    return slt(arg(a, 0), arg(b, 0));
  return node("slt", [a, b], 0);
}

export function sle(a: Term, b: Term): Term {
  return not(slt(b, a));
}

export function sgt(a: Term, b: Term): Term {
  return slt(b, a);
}

export function sge(a: Term, b: Term): Term {
  return not(slt(a, b));
}
