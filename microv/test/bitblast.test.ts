import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { blast } from "../bitblast.ts";
import { add, and, eq, mul, ne, not, ult } from "../build.ts";
import { digest } from "../canonical.ts";
import { type Cnf, fromDimacs, toDimacs } from "../cnf.ts";
import { Evaluator } from "../evaluate.ts";
import { applicationsOf, apply, bool, bv, type Term, variable, variablesOf } from "../term.ts";
import { assignment, formula, meaning, toTerm, words } from "./formulas.ts";

/** Plain unit propagation: the literals that follow, or nothing when they contradict each other. */
function propagate(cnf: Cnf): Set<number> | undefined {
  const clauses: number[][] = [[]];
  for (const literal of cnf.literals) {
    if (literal === 0) clauses.push([]);
    else clauses.at(-1)?.push(literal);
  }
  clauses.pop();
  const truths = new Set<number>();
  for (let before = -1; before !== truths.size; ) {
    before = truths.size;
    for (const clause of clauses) {
      if (clause.some((literal) => truths.has(literal))) continue;
      const open = clause.filter((literal) => !truths.has(-literal));
      if (open.length === 0) return undefined;
      if (open.length === 1) truths.add(open[0] as number);
    }
  }
  return truths;
}

const constantOf = (term: Term, value: bigint) =>
  term.width === 0 ? bool(value === 1n) : bv(value, term.width);

/** Assertions that fix every variable and every application of a formula to what the assignment says. */
function fixed(term: Term, seed: number): Term[] {
  const evaluator = new Evaluator(assignment(seed));
  return [...variablesOf(term), ...applicationsOf([term])].map((t) =>
    eq(t, constantOf(t, evaluator.value(t))),
  );
}

test("with its inputs fixed, a circuit propagates to what the formula means and to nothing else", () => {
  fc.assert(
    fc.property(fc.oneof(formula(3), words(3)), fc.integer(), (tree, seed) => {
      const term = toTerm(tree);
      const value = constantOf(term, meaning(tree, assignment(seed)));
      const result = variable("result", term.width);
      const inputs = fixed(term, seed);
      const equation = eq(result, term);
      const good = blast([...inputs, equation]);
      const truths = propagate(good.cnf);
      assert.ok(truths);
      assert.equal(good.model((v) => truths.has(v)).variable("result"), value.value);
      assert.equal(propagate(blast([...inputs, equation, ne(result, value)]).cnf), undefined);
    }),
    { numRuns: 400 },
  );
});

test("a wrong value is noticed: three times five is not eight, though three and five are", () => {
  const [x, y] = [variable("x", 8), variable("y", 8)];
  const inputs = [eq(x, bv(3, 8)), eq(y, bv(5, 8))];
  assert.equal(propagate(blast([...inputs, eq(mul(x, y), bv(8, 8))]).cnf), undefined);
  assert.notEqual(propagate(blast([...inputs, eq(add(x, y), bv(8, 8))]).cnf), undefined);
});

test("neither digest nor clauses depend on the order in which terms were made", () => {
  const script = fileURLToPath(new URL("./digest.script.ts", import.meta.url));
  const print = (order: string) =>
    execFileSync(process.execPath, [...process.execArgv, script, order], { encoding: "utf8" });
  assert.equal(print("backward"), print("forward"));
});

test("the digest tells formulas apart", () => {
  const [x, y] = [variable("x", 8), variable("y", 8)];
  const formulas = [
    ult(x, y),
    ult(y, x),
    not(ult(x, y)),
    eq(x, y),
    ult(x, bv(3, 8)),
    ult(variable("x", 9), variable("y", 9)),
  ];
  assert.equal(new Set(formulas.map((formula) => digest([formula]))).size, formulas.length);
});

test("equal arguments have equal values", () => {
  const [x, y] = [variable("x", 4), variable("y", 4)];
  const same = [eq(x, bv(3, 4)), eq(y, bv(3, 4))];
  const differ = not(eq(apply("f", 4, x), apply("f", 4, y)));
  assert.equal(propagate(blast([...same, eq(apply("f", 4, x), bv(1, 4)), differ]).cnf), undefined);
  assert.notEqual(propagate(blast([eq(x, bv(3, 4)), eq(y, bv(4, 4)), differ]).cnf), undefined);
});

test("equal gates are built once", () => {
  const [x, y] = [variable("x", 16), variable("y", 16)];
  const once = blast([eq(apply("g", 16, x), y)]).cnf;
  const twice = blast([and(eq(apply("g", 16, x), y), eq(apply("g", 16, x), y))]).cnf;
  assert.deepEqual(twice, once);
});

test("DIMACS text holds the same clauses", () => {
  const { cnf } = blast([eq(apply("f", 8, variable("x", 8)), variable("y", 8))]);
  assert.deepEqual(fromDimacs(new TextDecoder().decode(toDimacs(cnf))), cnf);
  assert.throws(() => fromDimacs("p cnf 1 1\n2 0\n"), /bad literal 2/);
  assert.throws(() => fromDimacs("p cnf 1 2\n1 0\n"), /not as the header says/);
});
