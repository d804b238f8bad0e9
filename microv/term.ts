/**
 * Terms: the formulas everything else is written in.
 *
 * A term is a Boolean (width 0) or a bit-vector (width 1 and up) built from constants, variables, applications of uninterpreted
 * functions and the operators in {@link Op}. Terms are hash-consed: two terms are equal exactly when they are the same object, so
 * `===` compares formulas and a formula that occurs a thousand times is stored once. They live as long as the process.
 *
 * This file only represents terms. Build them with `build.ts`, which simplifies; read them with `evaluate.ts`.
 */

/**
 * The operators. `and` takes one or more Booleans; `concat` takes two or more words, most significant first; `add` takes two or
 * more words; `extract` keeps bits `high..low`; `udiv`, `urem`, `sdiv`, `srem` and the shifts mean what SMT-LIB says (division by
 * zero gives all ones, a shift by the width or more gives zeros, or signs for `ashr`).
 */
export type Op =
  | "const"
  | "var"
  | "apply"
  | "not"
  | "and"
  | "ite"
  | "eq"
  | "ult"
  | "slt"
  | "concat"
  | "extract"
  | "sext"
  | "bnot"
  | "band"
  | "bor"
  | "bxor"
  | "add"
  | "mul"
  | "udiv"
  | "urem"
  | "sdiv"
  | "srem"
  | "shl"
  | "lshr"
  | "ashr";

/** A hash-consed formula. All fields are read-only to everyone but this file. */
export interface Term {
  /** Order of creation; arguments always have smaller ids than the terms made of them. */
  readonly id: number;
  readonly op: Op;
  readonly args: readonly Term[];
  /** Bits of a bit-vector, 0 for a Boolean. */
  readonly width: number;
  /** Value of a `const`, as an unsigned number; 0n otherwise. */
  readonly value: bigint;
  /** Name of a `var`, or of the function of an `apply`; empty otherwise. */
  readonly name: string;
  /** Bounds of an `extract`, both inclusive; 0 otherwise. */
  readonly high: number;
  readonly low: number;
  /** A range that the unsigned value always lies in, found by looking at the structure alone. */
  readonly min: bigint;
  readonly max: bigint;
  /** How many `ite`s are nested at the top; rules that push an operator into both arms stop at a bound on it. */
  readonly branching: number;
}

/** All ones in `width` bits. */
export function mask(width: number): bigint {
  return (1n << BigInt(width)) - 1n;
}

/** The two's complement reading of an unsigned `value`. */
export function signed(value: bigint, width: number): bigint {
  return BigInt.asIntN(width, value);
}

interface Cell extends Term {
  readonly hash: number;
  next: Cell | undefined;
}

let buckets: (Cell | undefined)[] = new Array(1 << 16).fill(undefined);
let count = 0;
const nameNumbers = new Map<string, number>();

/** How many distinct terms exist in this process: the measure that term limits are stated in. */
export function termCount(): number {
  return count;
}

function nameNumber(name: string): number {
  let number = nameNumbers.get(name);
  if (number === undefined) {
    number = nameNumbers.size + 1;
    nameNumbers.set(name, number);
  }
  return number;
}

function mix(hash: number, value: number): number {
  const product = Math.imul(hash ^ value, 0x9e3779b1);
  return product ^ (product >>> 15);
}

function grow(): void {
  const old = buckets;
  buckets = new Array(old.length * 2).fill(undefined);
  for (let cell of old) {
    while (cell) {
      const next: Cell | undefined = cell.next;
      const slot = cell.hash & (buckets.length - 1);
      cell.next = buckets[slot];
      buckets[slot] = cell;
      cell = next;
    }
  }
}

function sameArgs(a: readonly Term[], b: readonly Term[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function least(a: bigint, b: bigint): bigint {
  if (b < a) return b;
  return a;
}

function greatest(a: bigint, b: bigint): bigint {
  if (b > a) return b;
  return a;
}

function range(op: Op, args: readonly Term[], width: number, value: bigint): { min: bigint; max: bigint } {
  const [a, b, c] = args;
  if (op === "const") return { min: value, max: value };
  if (width === 0) return { min: 0n, max: 1n };
  if (op === "concat") {
    let min = 0n;
    let max = 0n;
    for (const part of args) {
      min = (min << BigInt(part.width)) | part.min;
      max = (max << BigInt(part.width)) | part.max;
    }
    return { min, max };
  }
  if (op === "ite" && b && c) {
    return { min: least(b.min, c.min), max: greatest(b.max, c.max) };
  }
  if (op === "band" && a && b) return { min: 0n, max: least(a.max, b.max) };
  if (op === "bor" && a && b) return { min: greatest(a.min, b.min), max: mask(width) };
  if (op === "add") {
    let min = 0n;
    let max = 0n;
    for (const part of args) {
      min += part.min;
      max += part.max;
    }
    if (max <= mask(width)) return { min, max };
  }
  if ((op === "udiv" || op === "urem") && a && b && b.min > 0n) {
    if (op === "udiv") return { min: a.min / b.max, max: a.max / b.min };
    return { min: 0n, max: least(a.max, b.max - 1n) };
  }
  if (op === "lshr" && a) return { min: 0n, max: a.max };
  return { min: 0n, max: mask(width) };
}

function branching(op: Op, args: readonly Term[]): number {
  if (op !== "ite" && op !== "concat") return 0;
  let deepest = 0;
  for (const arg of args) if (arg.branching > deepest) deepest = arg.branching;
  return op === "ite" ? deepest + 1 : deepest;
}

/** What a node is made of, besides its operator, arguments and width. */
export interface Parts {
  value?: bigint;
  name?: string;
  high?: number;
  low?: number;
}

/**
 * The term with exactly this operator and these arguments, unsimplified. Only `build.ts` should call it: it relies on the caller for
 * the widths and for the order of arguments that makes equal formulas identical.
 */
export function node(op: Op, args: readonly Term[], width: number, parts: Parts = {}): Term {
  const value = parts.value ?? 0n;
  const name = parts.name ?? "";
  const high = parts.high ?? 0;
  const low = parts.low ?? 0;
  let hash = mix(op.length * 31 + op.charCodeAt(0) + op.charCodeAt(op.length - 1) * 7, width);
  hash = mix(hash, high * 4096 + low);
  if (name !== "") hash = mix(hash, nameNumber(name));
  if (op === "const") hash = mix(hash, Number(BigInt.asUintN(32, value ^ (value >> 32n))));
  for (const arg of args) hash = mix(hash, arg.id);
  for (let cell = buckets[hash & (buckets.length - 1)]; cell; cell = cell.next) {
    if (
      cell.hash === hash &&
      cell.op === op &&
      cell.width === width &&
      cell.value === value &&
      cell.name === name &&
      cell.high === high &&
      cell.low === low &&
      sameArgs(cell.args, args)
    ) {
      return cell;
    }
  }
  if (count >= buckets.length) grow();
  const slot = hash & (buckets.length - 1);
  const cell: Cell = {
    id: count++,
    op,
    args,
    width,
    value,
    name,
    high,
    low,
    ...range(op, args, width, value),
    branching: branching(op, args),
    hash,
    next: buckets[slot],
  };
  buckets[slot] = cell;
  return cell;
}

/** The Boolean constants. */
export const FALSE = node("const", [], 0, { value: 0n });
export const TRUE = node("const", [], 0, { value: 1n });

/** A Boolean constant. */
export function bool(value: boolean): Term {
  return value ? TRUE : FALSE;
}

/** The bit-vector constant `value` modulo 2^`width`. Throws when `width` is not positive. */
export function bv(value: bigint | number, width: number): Term {
  if (!(width > 0)) throw new RangeError(`a bit-vector needs a positive width, not ${width}`);
  return node("const", [], width, { value: BigInt.asUintN(width, BigInt(value)) });
}

/** The variable `name`; width 0 makes it Boolean. The same name with another width is another variable: avoid it. */
export function variable(name: string, width: number): Term {
  return node("var", [], width, { name });
}

/** The uninterpreted function `name` applied to `args`, giving a word of `width` bits (0: Boolean). */
export function apply(name: string, width: number, ...args: Term[]): Term {
  if (args.length === 0) throw new RangeError(`function ${name} needs an argument; use a variable`);
  return node("apply", args, width, { name });
}

export function isConst(term: Term): boolean {
  return term.op === "const";
}

/** By number of the term: the last walk that came by it. */
let visits = new Uint32Array(1 << 16);
let walks = 0;

/** Every term reachable from `roots`, each once, arguments before the terms made of them. Uses no recursion. */
export function postorder(roots: Iterable<Term>): Term[] {
  const order: Term[] = [];
  if (visits.length < count) {
    const more = new Uint32Array(2 * count);
    more.set(visits);
    visits = more;
  }
  const walk = ++walks;
  const stack: (Term | undefined)[] = [];
  const pending: Term[] = [];
  for (const root of roots) {
    stack.push(root);
    while (stack.length > 0) {
      const term = stack.pop();
      if (term === undefined) {
        const done = pending.pop();
        if (done) order.push(done);
        continue;
      }
      if (visits[term.id] === walk) continue;
      visits[term.id] = walk;
      if (term.args.length === 0) {
        order.push(term);
        continue;
      }
      pending.push(term);
      stack.push(undefined);
      for (let i = term.args.length - 1; i >= 0; i--) {
        const arg = term.args[i];
        if (arg && visits[arg.id] !== walk) stack.push(arg);
      }
    }
  }
  return order;
}

/** Number of distinct terms in the given formulas together. */
export function size(...roots: Term[]): number {
  return postorder(roots).length;
}

/** The variables that occur in the given formulas, in order of first occurrence. */
export function variablesOf(...roots: Term[]): Term[] {
  return postorder(roots).filter((term) => term.op === "var");
}

/** The applications of uninterpreted functions in the given formulas. */
export function applicationsOf(roots: Iterable<Term>): Term[] {
  return postorder(roots).filter((term) => term.op === "apply");
}

const SIGNS: Partial<Record<Op, string>> = {
  eq: "=",
  ult: "<",
  slt: "<s",
  band: "&",
  bor: "|",
  bxor: "^",
  add: "+",
  mul: "*",
  udiv: "/",
  urem: "%",
  sdiv: "/s",
  srem: "%s",
  shl: "<<",
  lshr: ">>",
  ashr: ">>s",
  concat: "##",
};

/** A constant as people read it: Booleans as words, small numbers in decimal, others in hexadecimal. */
export function showValue(value: bigint, width: number): string {
  if (width === 0) return value === 0n ? "false" : "true";
  return value < 10n ? value.toString() : `0x${value.toString(16)}`;
}

/** Longest text that {@link show} gives. */
const LONGEST = 4000;

/**
 * The formula as people read it, cut off with `…` at `depth` levels and at a bound on the length.
 * @example show(implies(ult(x, bv(8, 64)), eq(y, x)))  // "!((x < 8) && !(x = y))"
 */
export function show(term: Term, depth = 12): string {
  const budget = { left: LONGEST };
  return showWithin(term, depth, budget);
}

function showWithin(term: Term, depth: number, budget: { left: number }): string {
  if (term.op === "const") return showValue(term.value, term.width);
  if (term.op === "var") return term.name;
  budget.left -= 4;
  if (depth === 0 || budget.left < 0) return "…";
  const plain = term.args.map((arg) => showWithin(arg, depth - 1, budget));
  const inner = plain.map((text) => (/^\S+$|^\w+\([^()]*\)$/.test(text) ? text : `(${text})`));
  switch (term.op) {
    case "not":
      return `!${inner[0]}`;
    case "and":
      return inner.join(" && ");
    case "ite":
      return `${inner[0]} ? ${inner[1]} : ${inner[2]}`;
    case "apply":
      return `${term.name}(${plain.join(", ")})`;
    case "extract":
      return `${inner[0]}[${term.high}:${term.low}]`;
    case "sext":
      return `sext${term.width}(${plain[0]})`;
    case "bnot":
      return `~${inner[0]}`;
    default:
      return inner.join(` ${SIGNS[term.op]} `);
  }
}
