/**
 * Random formulas for property tests: a plain syntax tree with its own evaluation, written without any of the simplifier, and its
 * translation through the smart constructors.
 */
import fc from "fast-check";
import * as b from "../build.ts";
import type { Assignment } from "../evaluate.ts";
import { apply, bv, type Term, variable } from "../term.ts";

export const WIDTHS = [1, 3, 8, 12];

export type Tree =
  | { kind: "const"; width: number; value: bigint }
  | { kind: "var"; width: number; name: string }
  | { kind: "apply"; width: number; arg: Tree }
  | { kind: "unary"; op: "bnot" | "neg"; width: number; a: Tree }
  | { kind: "binary"; op: Binary; width: number; a: Tree; b: Tree }
  | { kind: "compare"; op: Compare; width: 0; a: Tree; b: Tree }
  | { kind: "logic"; op: "and" | "or" | "implies" | "eq"; width: 0; a: Tree; b: Tree }
  | { kind: "not"; width: 0; a: Tree }
  | { kind: "ite"; width: number; c: Tree; a: Tree; b: Tree }
  | { kind: "concat"; width: number; a: Tree; b: Tree }
  | { kind: "extract"; width: number; high: number; low: number; a: Tree }
  | { kind: "extend"; op: "zext" | "sext"; width: number; a: Tree };

const BINARY = [
  "add",
  "sub",
  "mul",
  "band",
  "bor",
  "bxor",
  "udiv",
  "urem",
  "sdiv",
  "srem",
  "shl",
  "lshr",
  "ashr",
] as const;
const COMPARE = ["eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge"] as const;
type Binary = (typeof BINARY)[number];
type Compare = (typeof COMPARE)[number];

function word(width: number, depth: number): fc.Arbitrary<Tree> {
  const constant = fc
    .oneof(fc.bigInt(0n, (1n << BigInt(width)) - 1n), fc.constantFrom(0n, 1n, (1n << BigInt(width)) - 1n))
    .map((value): Tree => ({ kind: "const", width, value: BigInt.asUintN(width, value) }));
  const name = fc.constantFrom("x", "y").map((n): Tree => ({ kind: "var", width, name: `${n}${width}` }));
  if (depth === 0) return fc.oneof(constant, name);
  const sub = word(width, depth - 1);
  const cases: fc.Arbitrary<Tree>[] = [
    name,
    fc
      .tuple(fc.constantFrom("bnot" as const, "neg" as const), sub)
      .map(([op, a]) => ({ kind: "unary", op, width, a })),
    fc
      .tuple(fc.constantFrom(...BINARY), sub, fc.oneof(sub, constant))
      .map(([op, a, b]) => ({ kind: "binary", op, width, a, b })),
    fc
      .tuple(fc.constantFrom("band" as const, "bor" as const, "add" as const), constant, sub)
      .map(([op, a, b]) => ({ kind: "binary", op, width, a, b })),
    fc
      .tuple(formula(depth - 1), sub, fc.oneof(sub, constant))
      .map(([c, a, b]) => ({ kind: "ite", width, c, a, b })),
    sub.map((arg) => ({ kind: "apply", width, arg })),
    fc
      .constantFrom(...WIDTHS.filter((w) => w >= width))
      .chain((w) => fc.tuple(word(w, depth - 1), fc.nat(w - width)))
      .map(([a, low]) => ({ kind: "extract", width, high: low + width - 1, low, a })),
  ];
  const narrower = WIDTHS.filter((w) => w < width);
  if (narrower.length > 0) {
    cases.push(
      fc
        .tuple(
          fc.constantFrom("zext" as const, "sext" as const),
          fc.constantFrom(...narrower).chain((w) => word(w, depth - 1)),
        )
        .map(([op, a]) => ({ kind: "extend", op, width, a })),
      fc
        .nat(width - 2)
        .chain((n) => fc.tuple(word(n + 1, 0), word(width - n - 1, 0)))
        .map(([a, b]) => ({ kind: "concat", width, a, b })),
    );
  }
  return fc.oneof(...cases);
}

export function formula(depth: number): fc.Arbitrary<Tree> {
  const compare = fc
    .constantFrom(...WIDTHS)
    .chain((w) =>
      fc.tuple(fc.constantFrom(...COMPARE), word(w, Math.max(depth - 1, 0)), word(w, Math.max(depth - 1, 0))),
    )
    .map(([op, a, b]): Tree => ({ kind: "compare", op, width: 0, a, b }));
  const name = fc.constantFrom("p", "q", "r").map((n): Tree => ({ kind: "var", width: 0, name: n }));
  if (depth === 0) return name;
  const sub = formula(depth - 1);
  return fc.oneof(
    compare,
    compare,
    sub.map((a): Tree => ({ kind: "not", width: 0, a })),
    fc
      .tuple(fc.constantFrom("and" as const, "or" as const, "implies" as const, "eq" as const), sub, sub)
      .map(([op, a, b]): Tree => ({ kind: "logic", op, width: 0, a, b })),
    fc.tuple(sub, sub, sub).map(([c, a, b]): Tree => ({ kind: "ite", width: 0, c, a, b })),
  );
}

export function words(depth: number): fc.Arbitrary<Tree> {
  return fc.constantFrom(...WIDTHS).chain((w) => word(w, depth));
}

const builders: typeof b = b;

/** The tree through the smart constructors. */
export function toTerm(tree: Tree): Term {
  switch (tree.kind) {
    case "const":
      return bv(tree.value, tree.width);
    case "var":
      return variable(tree.name, tree.width);
    case "apply":
      return apply(`f${tree.width}`, tree.width, toTerm(tree.arg));
    case "not":
      return b.not(toTerm(tree.a));
    case "unary":
      return builders[tree.op](toTerm(tree.a));
    case "ite":
      return b.ite(toTerm(tree.c), toTerm(tree.a), toTerm(tree.b));
    case "extract":
      return b.extract(tree.high, tree.low, toTerm(tree.a));
    case "extend":
      return builders[tree.op](toTerm(tree.a), tree.width);
    default:
      return builders[tree.kind === "concat" ? "concat" : tree.op](toTerm(tree.a), toTerm(tree.b));
  }
}

const wrap = (value: bigint, width: number) => BigInt.asUintN(width, value);

function binary(op: Binary, a: bigint, b: bigint, width: number): bigint {
  const sa = BigInt.asIntN(width, a);
  const sb = BigInt.asIntN(width, b);
  const far = b >= BigInt(width);
  switch (op) {
    case "add":
      return a + b;
    case "sub":
      return a - b;
    case "mul":
      return a * b;
    case "band":
      return a & b;
    case "bor":
      return a | b;
    case "bxor":
      return a ^ b;
    case "udiv":
      return b === 0n ? -1n : a / b;
    case "urem":
      return b === 0n ? a : a % b;
    case "sdiv":
      return b === 0n ? (sa < 0n ? 1n : -1n) : sa / sb;
    case "srem":
      return b === 0n ? a : sa % sb;
    case "shl":
      return far ? 0n : a << b;
    case "lshr":
      return far ? 0n : a >> b;
    case "ashr":
      return far ? (sa < 0n ? -1n : 0n) : sa >> b;
  }
}

function compare(op: Compare, a: bigint, b: bigint, width: number): boolean {
  const sa = BigInt.asIntN(width, a);
  const sb = BigInt.asIntN(width, b);
  switch (op) {
    case "eq":
      return a === b;
    case "ne":
      return a !== b;
    case "ult":
      return a < b;
    case "ule":
      return a <= b;
    case "ugt":
      return a > b;
    case "uge":
      return a >= b;
    case "slt":
      return sa < sb;
    case "sle":
      return sa <= sb;
    case "sgt":
      return sa > sb;
    case "sge":
      return sa >= sb;
  }
}

/** The meaning of the tree, straight from the definition of each operator. */
export function meaning(tree: Tree, env: Assignment): bigint {
  const at = (t: Tree) => meaning(t, env);
  switch (tree.kind) {
    case "const":
      return tree.value;
    case "var":
      return env.variable(tree.name, tree.width);
    case "apply":
      return env.apply(`f${tree.width}`, [at(tree.arg)], tree.width);
    case "unary":
      return wrap(tree.op === "bnot" ? ~at(tree.a) : -at(tree.a), tree.width);
    case "binary":
      return wrap(binary(tree.op, at(tree.a), at(tree.b), tree.width), tree.width);
    case "compare":
      return compare(tree.op, at(tree.a), at(tree.b), tree.a.width) ? 1n : 0n;
    case "logic": {
      const [x, y] = [at(tree.a) === 1n, at(tree.b) === 1n];
      const truth =
        tree.op === "and" ? x && y : tree.op === "or" ? x || y : tree.op === "implies" ? !x || y : x === y;
      return truth ? 1n : 0n;
    }
    case "not":
      return 1n - at(tree.a);
    case "ite":
      return at(tree.c) === 1n ? at(tree.a) : at(tree.b);
    case "concat":
      return (at(tree.a) << BigInt(tree.b.width)) | at(tree.b);
    case "extract":
      return wrap(at(tree.a) >> BigInt(tree.low), tree.width);
    case "extend":
      return tree.op === "zext" ? at(tree.a) : wrap(BigInt.asIntN(tree.a.width, at(tree.a)), tree.width);
  }
}

/** An assignment drawn from a seed: the same name always has the same value. */
export function assignment(seed: number): Assignment {
  const draw = (text: string, width: number): bigint => {
    let h = seed | 0;
    for (const ch of text) h = Math.imul(h ^ ch.charCodeAt(0), 0x01000193);
    h = Math.imul(h ^ (h >>> 13), 0x5bd1e995);
    return BigInt.asUintN(Math.max(width, 1), BigInt(h >>> 3));
  };
  return { variable: draw, apply: (name, args, width) => draw(`${name}(${args})`, width) };
}
