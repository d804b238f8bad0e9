import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { add, and, concat, eq, extract, implies, not, ult } from "../build.ts";
import { Evaluator } from "../evaluate.ts";
import { presolve } from "../presolve.ts";
import { apply, bv, FALSE, variable } from "../term.ts";
import { assignment, formula, toTerm } from "./formulas.ts";

test("the result holds exactly where the assertions hold", () => {
  const query = fc.array(formula(3), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(query, fc.array(fc.integer(), { minLength: 6, maxLength: 6 }), (trees, seeds) => {
      const assertions = trees.map(toTerm);
      const solved = presolve(assertions);
      for (const seed of seeds) {
        const evaluator = new Evaluator(assignment(seed));
        const holds = (list: typeof solved) => list.every((a) => evaluator.holds(a));
        assert.equal(holds(solved), holds(assertions));
      }
    }),
    { numRuns: 1500 },
  );
});

test("known bits turn a sum into a concatenation, everywhere but in the fact itself", () => {
  const x = variable("x", 64);
  const aligned = eq(extract(11, 0, x), bv(0, 12));
  const sum = eq(apply("f", 8, add(x, bv(24, 64))), bv(1, 8));
  assert.deepEqual(presolve([aligned, sum]), [
    aligned,
    eq(apply("f", 8, concat(extract(63, 12, x), bv(24, 12))), bv(1, 8)),
  ]);
});

test("what is asserted is true inside other assertions", () => {
  const [p, r] = [variable("p", 0), variable("r", 0)];
  const q = ult(variable("x", 8), variable("y", 8));
  assert.equal(and(...presolve([q, eq(implies(r, q), p)])), and(p, q));
  assert.deepEqual(presolve([not(q), and(p, q)]), [FALSE]);
});
