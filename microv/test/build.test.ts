import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as b from "../build.ts";
import { Evaluator } from "../evaluate.ts";
import { rename } from "../substitute.ts";
import { apply, bv, FALSE, postorder, show, size, type Term, TRUE, termCount, variable } from "../term.ts";
import { assignment, formula, meaning, toTerm, words } from "./formulas.ts";

const x = variable("x", 64);
const y = variable("y", 64);
const p = variable("p", 0);
const q = variable("q", 0);

test("simplified formulas mean what the raw formulas mean", () => {
  fc.assert(
    fc.property(
      fc.oneof(formula(4), words(4)),
      fc.array(fc.integer(), { minLength: 4, maxLength: 4 }),
      (tree, seeds) => {
        const term = toTerm(tree);
        assert.equal(term.width, tree.width);
        for (const seed of seeds) {
          const env = assignment(seed);
          assert.equal(new Evaluator(env).value(term), meaning(tree, env), show(term));
        }
      },
    ),
    { numRuns: 3000 },
  );
});

test("the range of every subterm holds its value", () => {
  fc.assert(
    fc.property(words(4), fc.integer(), (tree, seed) => {
      const evaluator = new Evaluator(assignment(seed));
      for (const term of postorder([toTerm(tree)])) {
        const value = evaluator.value(term);
        assert.ok(term.min <= value && value <= term.max, show(term));
      }
    }),
    { numRuns: 1000 },
  );
});

test("a wrong rule is noticed: x + x is not x", () => {
  const env = assignment(1);
  assert.notEqual(new Evaluator(env).value(b.add(x, x)), new Evaluator(env).value(x));
});

test("equal formulas are one object", () => {
  const before = termCount();
  const sum = b.add(b.mul(x, bv(24, 64)), y);
  const made = termCount() - before;
  assert.equal(b.add(y, b.mul(x, bv(24, 64))), sum);
  assert.equal(termCount() - before, made);
});

test("masks, shifts and aligned sums become concatenations", () => {
  const table = b.band(x, bv(0x0000fffffffff000n, 64));
  const index = b.shl(b.band(b.lshr(y, bv(12, 64)), bv(511, 64)), bv(3, 64));
  assert.equal(show(b.add(table, index)), "0 ## x[47:12] ## y[20:12] ## 0");
  assert.equal(b.extract(47, 12, b.add(table, index)), b.extract(47, 12, x));
  assert.equal(b.bor(table, bv(3, 64)), b.add(table, bv(3, 64)));
});

test("what both arms of a choice share is taken out of it", () => {
  const entry = (low: Term) => b.concat(b.extract(63, 12, x), low, bv(3, 3));
  const [u, v] = [variable("u", 9), variable("v", 9)];
  assert.equal(show(b.ite(p, entry(u), entry(v))), "x[63:12] ## (p ? u : v) ## 3");
});

test("comparisons with constants move into choices and disappear", () => {
  const code = b.ite(p, bv(0, 32), b.ite(q, bv(-2, 32), bv(-3, 32)));
  assert.equal(b.eq(code, bv(0, 32)), p);
  assert.equal(b.eq(code, bv(7, 32)), FALSE);
  assert.equal(b.eq(b.ofBool(p, 32), bv(0, 32)), b.not(p));
  assert.equal(b.ult(b.zext(b.extract(8, 0, x), 64), bv(512, 64)), TRUE);
});

test("conjuncts simplify each other", () => {
  assert.equal(b.and(p, b.or(p, q)), p);
  assert.equal(b.and(p, b.or(b.not(p), q)), b.and(p, q));
  assert.equal(b.or(b.and(p, q), b.and(p, b.not(q))), p);
  assert.equal(b.and(b.eq(x, bv(1, 64)), b.eq(x, bv(2, 64))), FALSE);
  assert.equal(b.and(b.eq(x, bv(1, 64)), b.ne(x, bv(2, 64))), b.eq(x, bv(1, 64)));
});

test("sums are compared by their difference", () => {
  assert.equal(b.eq(b.add(x, y, bv(8, 64)), b.add(y, x, bv(8, 64))), TRUE);
  assert.equal(b.eq(b.add(x, bv(8, 64)), x), FALSE);
  assert.equal(b.sub(b.add(x, y), x), y);
  assert.equal(b.eq(b.sub(x, y), bv(0, 64)), b.eq(x, y));
});

test("ten thousand nested choices are built, walked, evaluated and substituted without overflowing the stack", () => {
  let chain: Term = x;
  for (let i = 0; i < 10_000; i++)
    chain = b.ite(b.ult(y, apply("f", 64, bv(i, 8 * 8))), apply("g", 64, bv(i, 64)), chain);
  const word = b.extract(31, 0, b.add(chain, y));
  assert.ok(size(word) > 30_000);
  assert.equal(typeof new Evaluator(assignment(3)).value(word), "bigint");
  const [renamed] = rename([word], (name) => `${name}'`);
  assert.equal(size(renamed as Term), size(word));
});

test("words of different widths do not mix", () => {
  assert.throws(() => b.add(x, bv(1, 32)), /sum of 32 and 64 bits/);
  assert.throws(() => b.extract(64, 0, x), /bits 64\.\.0 of a word of 64 bits/);
  assert.throws(() => bv(1, 0), /positive width, not 0/);
});
