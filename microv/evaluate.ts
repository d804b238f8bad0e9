/** The meaning of a term under an assignment: how models are checked, and what the simplifier and the bit-blaster are tested against. */

import { sdivValue, sremValue } from "./arithmetic.ts";
import { mask, signed, type Term } from "./term.ts";

/** Gives each variable and each application of an uninterpreted function an unsigned value (0n or 1n for Booleans). */
export interface Assignment {
  variable(name: string, width: number): bigint;
  apply(name: string, args: readonly bigint[], width: number): bigint;
}

/** The value of one operator on the values of its arguments. */
function meaning(term: Term, args: readonly bigint[], assignment: Assignment): bigint {
  const width = term.width;
  const [a, b, c] = args as [bigint, bigint, bigint];
  const inner = term.args[0]?.width ?? 0;
  switch (term.op) {
    case "const":
      return term.value;
    case "var":
      return BigInt.asUintN(Math.max(width, 1), assignment.variable(term.name, width));
    case "apply":
      return BigInt.asUintN(Math.max(width, 1), assignment.apply(term.name, args, width));
    case "not":
      return 1n - a;
    case "and":
      return args.includes(0n) ? 0n : 1n;
    case "ite":
      return a === 1n ? b : c;
    case "eq":
      return a === b ? 1n : 0n;
    case "ult":
      return a < b ? 1n : 0n;
    case "slt":
      return signed(a, inner) < signed(b, inner) ? 1n : 0n;
    case "concat": {
      let value = 0n;
      for (const [i, part] of args.entries()) value = (value << BigInt((term.args[i] as Term).width)) | part;
      return value;
    }
    case "extract":
      return (a >> BigInt(term.low)) & mask(width);
    case "sext":
      return BigInt.asUintN(width, signed(a, inner));
    case "bnot":
      return BigInt.asUintN(width, ~a);
    case "band":
      return a & b;
    case "bor":
      return a | b;
    case "bxor":
      return a ^ b;
    case "add": {
      let value = 0n;
      for (const part of args) value += part;
      return BigInt.asUintN(width, value);
    }
    case "mul":
      return BigInt.asUintN(width, a * b);
    case "udiv":
      return b === 0n ? mask(width) : a / b;
    case "urem":
      return b === 0n ? a : a % b;
    case "sdiv":
      return BigInt.asUintN(width, sdivValue(a, b, width));
    case "srem":
      return BigInt.asUintN(width, sremValue(a, b, width));
    case "shl":
      return b >= BigInt(width) ? 0n : BigInt.asUintN(width, a << b);
    case "lshr":
      return b >= BigInt(width) ? 0n : a >> b;
    case "ashr":
      return BigInt.asUintN(width, signed(a, width) >> (b >= BigInt(width) ? BigInt(width) : b));
  }
}

/**
 * Values of terms under one assignment, remembered from call to call. Booleans are 0n and 1n. Uses no recursion.
 * @example new Evaluator(model).value(goal) === 0n  // the goal is false in the model
 */
export class Evaluator {
  private readonly values = new Map<Term, bigint>();
  private readonly assignment: Assignment;

  constructor(assignment: Assignment) {
    this.assignment = assignment;
  }

  value(root: Term): bigint {
    const known = this.values.get(root);
    if (known !== undefined) return known;
    const stack = [root];
    for (let term = stack.at(-1); term; term = stack.at(-1)) {
      const missing = this.values.has(term) ? [] : term.args.filter((arg) => !this.values.has(arg));
      if (missing.length > 0) {
        stack.push(...missing);
        continue;
      }
      stack.pop();
      if (this.values.has(term)) continue;
      const args = term.args.map((arg) => this.values.get(arg) as bigint);
      this.values.set(term, meaning(term, args, this.assignment));
    }
    return this.values.get(root) as bigint;
  }

  holds(formula: Term): boolean {
    return this.value(formula) === 1n;
  }
}

/**
 * A finite assignment: what a solver gives back. What it does not mention is zero.
 * Applications are kept under `name(arg,arg)` with arguments in decimal.
 */
export class Model implements Assignment {
  readonly variables = new Map<string, bigint>();
  readonly applications = new Map<string, bigint>();

  static key(name: string, args: readonly bigint[]): string {
    return `${name}(${args.join(",")})`;
  }

  variable(name: string): bigint {
    return this.variables.get(name) ?? 0n;
  }

  apply(name: string, args: readonly bigint[]): bigint {
    return this.applications.get(Model.key(name, args)) ?? 0n;
  }

  /** What is known of the function `name`, as `[arguments, value]`. */
  *entries(name: string): Generator<[bigint[], bigint]> {
    for (const [key, value] of this.applications) {
      if (key.startsWith(`${name}(`))
        yield [
          key
            .slice(name.length + 1, -1)
            .split(",")
            .map(BigInt),
          value,
        ];
    }
  }
}
