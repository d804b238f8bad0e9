// biome-ignore-all lint/style/noNonNullAssertion: arguments and bits are present by the widths of the terms
/**
 * From formulas to clauses.
 *
 * Uninterpreted functions go first (Ackermann): each application becomes a variable, and for each two applications of one function,
 * equal arguments imply equal values. Then every operator becomes gates over bits, and each gate clauses (Tseitin); equal gates are
 * built once. The clauses are satisfiable exactly when the formulas are. This file is trusted: a certificate shows that the clauses
 * are contradictory, and it is the translation here that makes them mean the formulas.
 */

import { and, eq } from "./build.ts";
import { canonicalArgs, canonicalOrder, canonicalRoots } from "./canonical.ts";
import { type Cnf, CnfBuilder } from "./cnf.ts";
import { Evaluator, Model } from "./evaluate.ts";
import { substitute } from "./substitute.ts";
import { FALSE, signed, type Term, TRUE, variable } from "./term.ts";

/** Bits of a word, least significant first, as literals. A Boolean is one bit. */
type Bits = readonly number[];

/** The literal that is true; its negative is false. */
const YES = 1;
const NO = -1;

/** An application and the variable that stands for its value. */
interface Application {
  readonly name: string;
  readonly args: readonly Term[];
  readonly value: Term;
  readonly number: number;
}

/** Clauses, and the way back from a satisfying assignment to a model of the formulas. */
export interface Blasted {
  readonly cnf: Cnf;
  /** Literals that are true exactly when the further formulas are, in their order. */
  readonly literals: readonly number[];
  /** @param isTrue whether a CNF variable is true */
  model(isTrue: (variable: number) => boolean): Model;
}

/** Replaces applications of uninterpreted functions by variables. Applications of one function with the same arguments share one. */
function ackermann(assertions: readonly Term[]): { assertions: Term[]; groups: Application[][] } {
  const groups = new Map<string, Application[]>();
  const numbers = new Map<Term, number>();
  const values = new Map<Term, Term>();
  for (const term of canonicalOrder(assertions)) if (term.op === "apply") numbers.set(term, numbers.size);
  const replaced = substitute(assertions, (rebuilt, original) => {
    if (original.op !== "apply") return undefined;
    const known = values.get(rebuilt);
    if (known) return known;
    const signature = `${rebuilt.name}:${rebuilt.width}:${rebuilt.args.map((a) => a.width).join()}`;
    const value = variable(`\0${signature}#${numbers.get(original)}`, rebuilt.width);
    values.set(rebuilt, value);
    const application = { name: rebuilt.name, args: rebuilt.args, value, number: numbers.get(original)! };
    groups.set(signature, [...(groups.get(signature) ?? []), application]);
    return value;
  });
  const ordered = [...groups.values()].map((group) => group.sort((a, b) => a.number - b.number));
  return { assertions: replaced, groups: ordered.sort((a, b) => a[0]!.number - b[0]!.number) };
}

/** Gates by their inputs: an open hash table of literal triples. */
class GateTable {
  private keys = new Int32Array(3 << 12);
  private outputs = new Int32Array(1 << 12);
  private used = 0;

  /** The output of the gate `(a, b, c)`, or what `make` creates. */
  find(a: number, b: number, c: number, make: () => number): number {
    let slot = this.slot(a, b, c);
    const known = this.outputs[slot]!;
    if (known !== 0) return known;
    if (2 * ++this.used > this.outputs.length) {
      this.grow();
      slot = this.slot(a, b, c);
    }
    const output = make();
    this.keys.set([a, b, c], 3 * slot);
    this.outputs[slot] = output;
    return output;
  }

  private slot(a: number, b: number, c: number): number {
    const last = this.outputs.length - 1;
    const hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35);
    for (let slot = (hash ^ (hash >>> 15)) & last; ; slot = (slot + 1) & last) {
      if (this.outputs[slot] === 0) return slot;
      const key = 3 * slot;
      if (this.keys[key] === a && this.keys[key + 1] === b && this.keys[key + 2] === c) return slot;
    }
  }

  private grow(): void {
    const { keys, outputs } = this;
    this.keys = new Int32Array(2 * keys.length);
    this.outputs = new Int32Array(2 * outputs.length);
    for (const [i, output] of outputs.entries()) {
      if (output === 0) continue;
      const key = keys.subarray(3 * i, 3 * i + 3);
      const slot = this.slot(key[0]!, key[1]!, key[2]!);
      this.keys.set(key, 3 * slot);
      this.outputs[slot] = output;
    }
  }
}

/** Third inputs that mark the kinds of two-input gates; no literal is ever that large. */
const AND = 0x7fffffff;
const XOR = 0x7ffffffe;

/** Gates over literals. Constants and repeated inputs fold away. */
class Circuit {
  readonly cnf = new CnfBuilder();
  private readonly gates = new GateTable();

  constructor() {
    this.cnf.variable();
    this.cnf.clause([YES]);
  }

  and(a: number, b: number): number {
    if (a === NO || b === NO || a === -b) return NO;
    if (a === YES || a === b) return b;
    if (b === YES) return a;
    if (a > b) return this.and(b, a);
    return this.gates.find(a, b, AND, () => {
      const out = this.cnf.variable();
      this.cnf.clause([-out, a]);
      this.cnf.clause([-out, b]);
      this.cnf.clause([out, -a, -b]);
      return out;
    });
  }

  or(a: number, b: number): number {
    return -this.and(-a, -b);
  }

  /** Conjunction of any number of literals as one gate. */
  all(inputs: readonly number[]): number {
    const list = [...new Set(inputs)].filter((literal) => literal !== YES);
    if (list.includes(NO) || list.some((literal) => literal > 0 && list.includes(-literal))) return NO;
    if (list.length <= 2) return this.and(list[0] ?? YES, list[1] ?? YES);
    const out = this.cnf.variable();
    for (const literal of list) this.cnf.clause([-out, literal]);
    this.cnf.clause([out, ...list.map((literal) => -literal)]);
    return out;
  }

  xor(a: number, b: number): number {
    if (a === YES) return -b;
    if (a === NO) return b;
    if (b === YES) return -a;
    if (b === NO) return a;
    if (a === b) return NO;
    if (a === -b) return YES;
    if (a < 0) return -this.xor(-a, b);
    if (b < 0) return -this.xor(a, -b);
    if (a > b) return this.xor(b, a);
    return this.gates.find(a, b, XOR, () => {
      const out = this.cnf.variable();
      this.cnf.clause([-out, a, b]);
      this.cnf.clause([-out, -a, -b]);
      this.cnf.clause([out, -a, b]);
      this.cnf.clause([out, a, -b]);
      return out;
    });
  }

  /** `a` if `c`, else `b`. The last two clauses are redundant and help propagation. */
  choose(c: number, a: number, b: number): number {
    if (c === YES || a === b) return a;
    if (c === NO) return b;
    if (c < 0) return this.choose(-c, b, a);
    if (a === YES || a === c) return this.or(c, b);
    if (a === NO || a === -c) return this.and(-c, b);
    if (b === YES || b === -c) return this.or(-c, a);
    if (b === NO || b === c) return this.and(c, a);
    if (a === -b) return this.xor(c, b);
    return this.gates.find(c, a, b, () => {
      const out = this.cnf.variable();
      this.cnf.clause([-c, -a, out]);
      this.cnf.clause([-c, a, -out]);
      this.cnf.clause([c, -b, out]);
      this.cnf.clause([c, b, -out]);
      this.cnf.clause([-a, -b, out]);
      this.cnf.clause([a, b, -out]);
      return out;
    });
  }

  equal(a: Bits, b: Bits): number {
    return this.all(a.map((bit, i) => -this.xor(bit, b[i]!)));
  }

  less(a: Bits, b: Bits): number {
    let result = NO;
    for (const [i, bit] of a.entries()) result = this.choose(this.xor(bit, b[i]!), b[i]!, result);
    return result;
  }

  add(a: Bits, b: Bits, carryIn = NO): Bits {
    let carry = carryIn;
    return a.map((bit, i) => {
      const other = b[i]!;
      const half = this.xor(bit, other);
      const sum = this.xor(half, carry);
      carry = this.choose(half, carry, bit);
      return sum;
    });
  }

  subtract(a: Bits, b: Bits): Bits {
    return this.add(a, negated(b), YES);
  }

  select(c: number, a: Bits, b: Bits): Bits {
    return a.map((bit, i) => this.choose(c, bit, b[i]!));
  }

  multiply(a: Bits, b: Bits): Bits {
    let sum: Bits = a.map(() => NO);
    for (const [i, bit] of b.entries()) {
      if (bit !== NO)
        sum = this.add(
          sum,
          shiftedUp(a, i).map((literal) => this.and(literal, bit)),
        );
    }
    return sum;
  }

  /** A product with a constant, from its digits -1, 0, 1 without two neighbours other than 0. */
  multiplyBy(a: Bits, factor: bigint): Bits {
    let sum: Bits = a.map(() => NO);
    let rest = signed(factor, a.length);
    for (let i = 0; rest !== 0n && i < a.length; i++, rest >>= 1n) {
      if ((rest & 1n) === 0n) continue;
      const down = (rest & 3n) === 3n;
      sum = down ? this.subtract(sum, shiftedUp(a, i)) : this.add(sum, shiftedUp(a, i));
      if (down) rest += 1n;
    }
    return sum;
  }

  /** Long division. With a zero divisor it gives all ones and the dividend, as SMT-LIB wants. */
  divide(a: Bits, b: Bits): { quotient: Bits; remainder: Bits } {
    const quotient: number[] = a.map(() => NO);
    const divisor = [...b, NO];
    let remainder: Bits = a.map(() => NO);
    for (let i = a.length - 1; i >= 0; i--) {
      const next = [a[i]!, ...remainder];
      const fits = -this.less(next, divisor);
      quotient[i] = fits;
      remainder = this.select(fits, this.subtract(next, divisor), next).slice(0, a.length);
    }
    return { quotient, remainder };
  }

  divideSigned(a: Bits, b: Bits): { quotient: Bits; remainder: Bits } {
    const [signA, signB] = [a.at(-1)!, b.at(-1)!];
    const magnitude = this.divide(this.negateIf(signA, a), this.negateIf(signB, b));
    return {
      quotient: this.negateIf(this.xor(signA, signB), magnitude.quotient),
      remainder: this.negateIf(signA, magnitude.remainder),
    };
  }

  private negateIf(c: number, a: Bits): Bits {
    const zero = a.map(() => NO);
    return this.select(c, this.subtract(zero, a), a);
  }

  /** Shifts by a variable amount, bit of the amount by bit; `move(k)` says which bit comes to place `i`, `fill` what comes from outside. */
  shift(a: Bits, amount: Bits, fill: number, source: (i: number, by: number) => number): Bits {
    let result = a;
    for (const [k, bit] of amount.entries()) {
      const by = 2 ** k;
      const moved = result.map((_, i) => (by < a.length ? (result[source(i, by)] ?? fill) : fill));
      result = this.select(bit, moved, result);
    }
    return result;
  }
}

const negated = (a: Bits): Bits => a.map((bit) => -bit);

function shiftedUp(a: Bits, by: number): Bits {
  return a.map((_, i) => (i < by ? NO : a[i - by]!));
}

class Blaster {
  readonly circuit = new Circuit();
  readonly variables = new Map<string, Bits>();
  private readonly bits = new Map<Term, Bits>();

  /** The bits of a term; those of its arguments are made first. */
  of(root: Term): Bits {
    for (const term of canonicalOrder([root], this.bits)) {
      const args = canonicalArgs(term).map((arg) => this.bits.get(arg)!);
      this.bits.set(term, this.make(term, args));
    }
    return this.bits.get(root)!;
  }

  private make(term: Term, args: readonly Bits[]): Bits {
    const c = this.circuit;
    const [a, b] = args as [Bits, Bits];
    switch (term.op) {
      case "const":
        return Array.from({ length: term.width || 1 }, (_, i) => ((term.value >> BigInt(i)) & 1n ? YES : NO));
      case "var": {
        const bits = Array.from({ length: term.width || 1 }, () => c.cnf.variable());
        this.variables.set(term.name, bits);
        return bits;
      }
      case "apply":
        throw new Error(`the application of ${term.name} was not replaced`);
      case "not":
        return [-a[0]!];
      case "and":
        return [c.all(args.map((bits) => bits[0]!))];
      case "ite":
        return c.select(a[0]!, b, args[2]!);
      case "eq":
        return [c.equal(a, b)];
      case "ult":
        return [c.less(a, b)];
      case "slt": {
        const flip = (bits: Bits) => [...bits.slice(0, -1), -bits.at(-1)!];
        return [c.less(flip(a), flip(b))];
      }
      case "concat":
        return [...args].reverse().flat();
      case "extract":
        return a.slice(term.low, term.high + 1);
      case "sext":
        return Array.from({ length: term.width }, (_, i) => a[Math.min(i, a.length - 1)]!);
      case "bnot":
        return negated(a);
      case "band":
        return a.map((bit, i) => c.and(bit, b[i]!));
      case "bor":
        return a.map((bit, i) => c.or(bit, b[i]!));
      case "bxor":
        return a.map((bit, i) => c.xor(bit, b[i]!));
      case "add":
        return args.reduce((sum, bits) => c.add(sum, bits));
      case "mul": {
        const factor = term.args[1]!;
        return factor.op === "const" ? c.multiplyBy(a, factor.value) : c.multiply(a, b);
      }
      case "udiv":
        return c.divide(a, b).quotient;
      case "urem":
        return c.divide(a, b).remainder;
      case "sdiv":
        return c.divideSigned(a, b).quotient;
      case "srem":
        return c.divideSigned(a, b).remainder;
      case "shl":
        return c.shift(a, b, NO, (i, by) => i - by);
      case "lshr":
        return c.shift(a, b, NO, (i, by) => i + by);
      case "ashr":
        return c.shift(a, b, a.at(-1)!, (i, by) => i + by);
    }
  }

  assert(formula: Term): void {
    if (formula === TRUE) return;
    const { cnf } = this.circuit;
    if (formula.op === "and") {
      for (const part of canonicalArgs(formula)) this.assert(part);
    } else if (formula.op === "not" && formula.args[0]!.op === "and") {
      cnf.clause(canonicalArgs(formula.args[0]!).map((part) => -this.of(part)[0]!));
    } else {
      cnf.clause([this.of(formula)[0]!]);
    }
  }

  /** Equal arguments imply equal values, for each two applications of one function. */
  assertFunctional(group: readonly Application[]): void {
    const { cnf } = this.circuit;
    const keys = group.map(({ args }) => args.flatMap((arg) => this.of(arg)));
    const values = group.map(({ value }) => this.of(value));
    for (let i = 1; i < group.length; i++) {
      for (let j = 0; j < i; j++) {
        if (differ(keys[i]!, keys[j]!)) continue;
        const [first, second] = [group[i]!, group[j]!];
        const same = and(...first.args.map((arg, k) => eq(arg, second.args[k]!)));
        if (same === FALSE) continue;
        const literal = this.of(same)[0]!;
        for (let k = 0; k < values[i]!.length; k++) {
          const [bit, other] = [values[i]![k]!, values[j]![k]!];
          cnf.clause([-literal, -bit, other]);
          cnf.clause([-literal, bit, -other]);
        }
      }
    }
  }
}

/** Whether the words differ in some bit, whatever the variables are. */
function differ(a: Bits, b: Bits): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] === -b[i]!) return true;
  return false;
}

/**
 * Clauses that are satisfiable exactly when all the assertions are, together.
 * @param formulas further formulas, which are given literals and not asserted
 */
export function blast(assertions: readonly Term[], formulas: readonly Term[] = []): Blasted {
  const { assertions: plain, groups } = ackermann([...assertions, ...formulas]);
  const blaster = new Blaster();
  for (const formula of canonicalRoots(plain.slice(0, assertions.length))) blaster.assert(formula);
  const literals = plain.slice(assertions.length).map((formula) => blaster.of(formula)[0]!);
  for (const group of groups) blaster.assertFunctional(group);
  return {
    cnf: blaster.circuit.cnf.build(),
    literals,
    model: (isTrue) => {
      const all = new Model();
      for (const [name, bits] of blaster.variables) {
        let value = 0n;
        for (const [i, bit] of bits.entries()) if (isTrue(bit)) value |= 1n << BigInt(i);
        all.variables.set(name, value);
      }
      const evaluator = new Evaluator(all);
      const model = new Model();
      for (const [name, value] of all.variables) if (!name.startsWith("\0")) model.variables.set(name, value);
      for (const { name, args, value } of groups.flat()) {
        const key = Model.key(
          name,
          args.map((arg) => evaluator.value(arg)),
        );
        model.applications.set(key, evaluator.value(value));
      }
      return model;
    },
  };
}
