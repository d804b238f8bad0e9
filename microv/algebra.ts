/**
 * Specifications are written once, over an algebra, and read twice: symbolically they become formulas for the prover, concretely they
 * compute, in tests and beside the running core.
 *
 * @example
 * function donate<B, W>(a: Algebra<B, W>, owner: Mapping<B, W>, vm: W, page: W): Mapping<B, W> {
 *   const free = a.eq(owner.get(page), a.lit(HOST, 32));
 *   return owner.set(free, page, vm);
 * }
 */

import * as build from "./build.ts";
import { Memory } from "./memory.ts";
import { bool, bv, mask, type Term } from "./term.ts";

/** Booleans `B` and words `W`. Words have a width; operators on two words require equal widths. */
export interface Algebra<B, W> {
  bool(value: boolean): B;
  lit(value: bigint | number, width: number): W;
  width(a: W): number;

  not(a: B): B;
  and(...all: B[]): B;
  or(...any: B[]): B;
  implies(a: B, b: B): B;
  iff(a: B, b: B): B;
  /** A choice between words, and between Booleans. */
  ite(condition: B, a: W, b: W): W;
  iteBool(condition: B, a: B, b: B): B;
  /** 1 or 0 in `width` bits. */
  ofBool(a: B, width: number): W;

  eq(a: W, b: W): B;
  ne(a: W, b: W): B;
  ult(a: W, b: W): B;
  ule(a: W, b: W): B;
  ugt(a: W, b: W): B;
  uge(a: W, b: W): B;
  slt(a: W, b: W): B;
  sle(a: W, b: W): B;
  sgt(a: W, b: W): B;
  sge(a: W, b: W): B;

  add(...all: W[]): W;
  sub(a: W, b: W): W;
  neg(a: W): W;
  mul(a: W, b: W): W;
  /** Shifts by the width or more give zeros (`ashr`: signs). */
  shl(a: W, amount: W): W;
  shr(a: W, amount: W): W;
  ashr(a: W, amount: W): W;
  band(a: W, b: W): W;
  bor(a: W, b: W): W;
  bxor(a: W, b: W): W;
  bnot(a: W): W;

  /** Bits `high..low`, both inclusive. */
  extract(high: number, low: number, a: W): W;
  /** The first word is the most significant. */
  concat(...parts: W[]): W;
  zext(a: W, width: number): W;
  sext(a: W, width: number): W;
}

/** An immutable map from words to words. */
export interface Mapping<B, W> {
  get(key: W): W;
  /** With `value` at `key`, if `condition`. */
  set(condition: B, key: W, value: W): Mapping<B, W>;
  /** With `value` at every key for which `inside` holds, if `condition`; `value` may depend on the key. */
  fill(condition: B, inside: (key: W) => B, value: W | ((key: W) => W)): Mapping<B, W>;
}

/** The symbolic reading: Booleans and words are terms. */
export const symbolic: Algebra<Term, Term> = {
  bool,
  lit: bv,
  width: (a) => a.width,
  not: build.not,
  and: build.and,
  or: build.or,
  implies: build.implies,
  iff: build.eq,
  ite: build.ite,
  iteBool: build.ite,
  ofBool: build.ofBool,
  eq: build.eq,
  ne: build.ne,
  ult: build.ult,
  ule: build.ule,
  ugt: build.ugt,
  uge: build.uge,
  slt: build.slt,
  sle: build.sle,
  sgt: build.sgt,
  sge: build.sge,
  add: build.add,
  sub: build.sub,
  neg: build.neg,
  mul: build.mul,
  shl: build.shl,
  shr: build.lshr,
  ashr: build.ashr,
  band: build.band,
  bor: build.bor,
  bxor: build.bxor,
  bnot: build.bnot,
  extract: build.extract,
  concat: build.concat,
  zext: build.zext,
  sext: build.sext,
};

/** A symbolic map over a {@link Memory}. */
export class SymbolicMap implements Mapping<Term, Term> {
  readonly memory: Memory;

  constructor(memory: Memory) {
    this.memory = memory;
  }

  /** A view that computes each entry from its key, for reading one state through the eyes of another layer. */
  static view(keyWidth: number, valueWidth: number, read: (key: Term) => Term): SymbolicMap {
    return new SymbolicMap(Memory.from(keyWidth, valueWidth, read));
  }

  get(key: Term): Term {
    return this.memory.read(key);
  }

  set(condition: Term, key: Term, value: Term): SymbolicMap {
    return new SymbolicMap(this.memory.store(key, value, condition));
  }

  fill(condition: Term, inside: (key: Term) => Term, value: Term | ((key: Term) => Term)): SymbolicMap {
    return new SymbolicMap(
      this.memory.rewrite((key, old) =>
        build.ite(build.and(condition, inside(key)), typeof value === "function" ? value(key) : value, old),
      ),
    );
  }
}

/** A concrete word: an unsigned value below 2^width. */
export interface Word {
  readonly width: number;
  readonly value: bigint;
}

/** The word `value` modulo 2^`width`. */
export function word(value: bigint | number, width: number): Word {
  return { width, value: BigInt.asUintN(width, BigInt(value)) };
}

function same(a: Word, b: Word): number {
  if (a.width !== b.width) throw new RangeError(`operation on ${a.width} and ${b.width} bits`);
  return a.width;
}

const signedValue = (a: Word) => BigInt.asIntN(a.width, a.value);

function compare(relation: (a: bigint, b: bigint) => boolean): (a: Word, b: Word) => boolean {
  return (a, b) => {
    same(a, b);
    return relation(a.value, b.value);
  };
}

function compareSigned(relation: (a: bigint, b: bigint) => boolean): (a: Word, b: Word) => boolean {
  return (a, b) => {
    same(a, b);
    return relation(signedValue(a), signedValue(b));
  };
}

function operate(value: (a: bigint, b: bigint) => bigint): (a: Word, b: Word) => Word {
  return (a, b) => word(value(a.value, b.value), same(a, b));
}

function shift(value: (a: Word, amount: bigint) => bigint): (a: Word, amount: Word) => Word {
  return (a, amount) => {
    const width = same(a, amount);
    return word(value(a, amount.value > BigInt(width) ? BigInt(width) : amount.value), width);
  };
}

/** The concrete reading: Booleans are booleans, words are {@link Word}s. */
export const concrete: Algebra<boolean, Word> = {
  bool: (value) => value,
  lit: word,
  width: (a) => a.width,
  not: (a) => !a,
  and: (...all) => all.every(Boolean),
  or: (...any) => any.some(Boolean),
  implies: (a, b) => !a || b,
  iff: (a, b) => a === b,
  ite: (condition, a, b) => (same(a, b) && condition ? a : b),
  iteBool: (condition, a, b) => (condition ? a : b),
  ofBool: (a, width) => word(a ? 1 : 0, width),
  eq: compare((a, b) => a === b),
  ne: compare((a, b) => a !== b),
  ult: compare((a, b) => a < b),
  ule: compare((a, b) => a <= b),
  ugt: compare((a, b) => a > b),
  uge: compare((a, b) => a >= b),
  slt: compareSigned((a, b) => a < b),
  sle: compareSigned((a, b) => a <= b),
  sgt: compareSigned((a, b) => a > b),
  sge: compareSigned((a, b) => a >= b),
  add: (...all) => all.reduce(operate((a, b) => a + b)),
  sub: operate((a, b) => a - b),
  neg: (a) => word(-a.value, a.width),
  mul: operate((a, b) => a * b),
  shl: shift((a, amount) => a.value << amount),
  shr: shift((a, amount) => a.value >> amount),
  ashr: shift((a, amount) => signedValue(a) >> amount),
  band: operate((a, b) => a & b),
  bor: operate((a, b) => a | b),
  bxor: operate((a, b) => a ^ b),
  bnot: (a) => word(~a.value, a.width),
  extract: (high, low, a) => {
    if (!(low >= 0 && high >= low && high < a.width))
      throw new RangeError(`bits ${high}..${low} of a word of ${a.width} bits`);
    return word(a.value >> BigInt(low), high - low + 1);
  },
  concat: (...parts) =>
    parts.reduce((a, b) => ({ width: a.width + b.width, value: (a.value << BigInt(b.width)) | b.value })),
  zext: (a, width) => {
    if (width < a.width) throw new RangeError(`${a.width} bits do not extend to ${width}`);
    return { width, value: a.value & mask(width) };
  },
  sext: (a, width) => {
    if (width < a.width) throw new RangeError(`${a.width} bits do not extend to ${width}`);
    return word(signedValue(a), width);
  },
};

/** A concrete map: a table of exceptions over a function. */
export class ConcreteMap implements Mapping<boolean, Word> {
  private readonly base: (key: Word) => Word;
  private readonly table: ReadonlyMap<bigint, Word>;

  /** @param base what a key holds that was never set, such as `() => word(0, 64)` */
  constructor(base: (key: Word) => Word, table: ReadonlyMap<bigint, Word> = new Map()) {
    this.base = base;
    this.table = table;
  }

  get(key: Word): Word {
    return this.table.get(key.value) ?? this.base(key);
  }

  set(condition: boolean, key: Word, value: Word): ConcreteMap {
    return condition ? new ConcreteMap(this.base, new Map(this.table).set(key.value, value)) : this;
  }

  fill(condition: boolean, inside: (key: Word) => boolean, value: Word | ((key: Word) => Word)): ConcreteMap {
    if (!condition) return this;
    return new ConcreteMap((key) => {
      if (!inside(key)) return this.get(key);
      return typeof value === "function" ? value(key) : value;
    });
  }
}
