/** What the numeric instructions of wasm compute, as terms. Booleans are 0 or 1 in 32 bits; shift amounts count modulo the width. */

import * as b from "./build.ts";
import { bv, mask, type Term } from "./term.ts";

type Operation = (...args: Term[]) => Term;

const flag = (relation: (x: Term, y: Term) => Term) => (x: Term, y: Term) => b.ofBool(relation(x, y), 32);
const amount = (y: Term) => b.band(y, bv(y.width - 1, y.width));

function rotateLeft(x: Term, y: Term): Term {
  const left = amount(y);
  return b.bor(b.shl(x, left), b.lshr(x, amount(b.neg(left))));
}

/** Position of the first set bit, counted along `positions`; the width if none is. */
function firstSet(x: Term, positions: number[]): Term {
  let result = bv(x.width, x.width);
  for (let count = x.width - 1; count >= 0; count--) {
    const bit = positions[count] as number;
    result = b.ite(b.eq(b.extract(bit, bit, x), bv(1, 1)), bv(count, x.width), result);
  }
  return result;
}

const upward = (width: number) => Array.from({ length: width }, (_, i) => i);

function countOnes(x: Term): Term {
  return b.zext(b.add(...upward(x.width).map((bit) => b.zext(b.extract(bit, bit, x), 7))), x.width);
}

const BINARY: Record<string, (x: Term, y: Term) => Term> = {
  eq: flag(b.eq),
  ne: flag(b.ne),
  lt_s: flag(b.slt),
  lt_u: flag(b.ult),
  gt_s: flag(b.sgt),
  gt_u: flag(b.ugt),
  le_s: flag(b.sle),
  le_u: flag(b.ule),
  ge_s: flag(b.sge),
  ge_u: flag(b.uge),
  add: (x, y) => b.add(x, y),
  sub: b.sub,
  mul: b.mul,
  div_s: b.sdiv,
  div_u: b.udiv,
  rem_s: b.srem,
  rem_u: b.urem,
  and: b.band,
  or: b.bor,
  xor: b.bxor,
  shl: (x, y) => b.shl(x, amount(y)),
  shr_s: (x, y) => b.ashr(x, amount(y)),
  shr_u: (x, y) => b.lshr(x, amount(y)),
  rotl: rotateLeft,
  rotr: (x, y) => rotateLeft(x, b.neg(y)),
};

const UNARY: Record<string, (x: Term) => Term> = {
  eqz: (x) => b.ofBool(b.eq(x, bv(0, x.width)), 32),
  clz: (x) => firstSet(x, upward(x.width).reverse()),
  ctz: (x) => firstSet(x, upward(x.width)),
  popcnt: countOnes,
  extend8_s: (x) => b.sext(b.extract(7, 0, x), x.width),
  extend16_s: (x) => b.sext(b.extract(15, 0, x), x.width),
  extend32_s: (x) => b.sext(b.extract(31, 0, x), x.width),
};

const CONVERSIONS: Record<string, (x: Term) => Term> = {
  "i32.wrap_i64": (x) => b.extract(31, 0, x),
  "i64.extend_i32_s": (x) => b.sext(x, 64),
  "i64.extend_i32_u": (x) => b.zext(x, 64),
};

function operations(): Map<string, Operation> {
  const all = new Map<string, Operation>(Object.entries(CONVERSIONS) as [string, Operation][]);
  for (const type of ["i32", "i64"]) {
    for (const [name, operation] of Object.entries({ ...BINARY, ...UNARY }))
      all.set(`${type}.${name}`, operation as Operation);
  }
  return all;
}

/** Numeric instructions by name. */
export const NUMERIC: ReadonlyMap<string, Operation> = operations();

/** When a division traps: what must hold of its operands, with the name of the obligation. Other instructions never trap here. */
export function divisionTraps(op: string, x: Term, y: Term): { name: string; goal: Term }[] {
  const kind = op.slice(4);
  if (!/^(div|rem)_[su]$/.test(kind)) return [];
  const traps = [{ name: "no division by zero", goal: b.ne(y, bv(0, y.width)) }];
  if (kind === "div_s") {
    const least = bv(1n << BigInt(x.width - 1), x.width);
    const overflow = b.and(b.eq(x, least), b.eq(y, bv(mask(y.width), y.width)));
    traps.push({ name: "no overflow in a division", goal: b.not(overflow) });
  }
  return traps;
}
