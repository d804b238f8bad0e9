import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Algebra,
  ConcreteMap,
  concrete,
  type Mapping,
  SymbolicMap,
  symbolic,
  type Word,
  word,
} from "../algebra.ts";
import { Evaluator } from "../evaluate.ts";
import { Memory } from "../memory.ts";
import { bv, type Term, variable } from "../term.ts";
import { assignment } from "./formulas.ts";

const WORDS = ["add", "sub", "mul", "shl", "shr", "ashr", "band", "bor", "bxor"] as const;
const RELATIONS = ["eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge"] as const;

const env = assignment(9);
const evaluator = new Evaluator(env);

/** A specification in the style the algebra is for. */
function take<B, W>(
  a: Algebra<B, W>,
  owner: Mapping<B, W>,
  who: W,
  page: W,
): { owner: Mapping<B, W>; code: W } {
  const free = a.and(a.eq(owner.get(page), a.lit(0, 8)), a.not(a.ult(page, a.lit(2, 8))));
  const taken = owner.set(free, page, who).fill(
    a.not(free),
    (key) => a.ult(key, a.lit(3, 8)),
    (key) => a.add(key, who),
  );
  return { owner: taken, code: a.ite(free, a.lit(0, 8), a.neg(a.ofBool(a.ugt(page, who), 8))) };
}

test("every operator means the same symbolically and concretely", () => {
  const value = fc.bigInt(0n, 255n);
  fc.assert(
    fc.property(
      value,
      value,
      fc.constantFrom(...WORDS),
      fc.constantFrom(...RELATIONS),
      (x, y, op, relation) => {
        const a: Term = bv(x, 8);
        const b: Term = bv(y, 8);
        assert.equal(symbolic[op](a, b).value, concrete[op](word(x, 8), word(y, 8)).value, op);
        assert.equal(
          symbolic[relation](a, b).value === 1n,
          concrete[relation](word(x, 8), word(y, 8)),
          relation,
        );
        assert.equal(
          symbolic.sext(symbolic.extract(6, 3, a), 8).value,
          concrete.sext(concrete.extract(6, 3, word(x, 8)), 8).value,
        );
        assert.equal(symbolic.concat(a, b).value, concrete.concat(word(x, 8), word(y, 8)).value);
        assert.equal(
          symbolic.zext(symbolic.bnot(a), 9).value,
          concrete.zext(concrete.bnot(word(x, 8)), 9).value,
        );
      },
    ),
  );
});

test("one specification, two readings, one result", () => {
  const [who, page] = [variable("who", 8), variable("page", 8)];
  const formula = take(symbolic, new SymbolicMap(Memory.arbitrary("owner", 8, 8)), who, page);
  fc.assert(
    fc.property(fc.integer(), fc.nat(9), fc.nat(255), fc.nat(9), (seed, p, w, probe) => {
      const drawn = assignment(seed);
      const owners = (key: bigint) => (drawn.apply("owner", [key], 8) & 1n) * 5n;
      const values = new Evaluator({
        variable: (name) => BigInt(name === "page" ? p : w),
        apply: (_, [key]) => owners(key as bigint),
      });
      const actual = take<boolean, Word>(
        concrete,
        new ConcreteMap((k) => word(owners(k.value), 8)),
        word(w, 8),
        word(p, 8),
      );
      assert.equal(values.value(formula.code), actual.code.value);
      assert.equal(values.value(formula.owner.get(bv(probe, 8))), actual.owner.get(word(probe, 8)).value);
    }),
  );
});

test("words of different widths do not mix in either reading", () => {
  assert.throws(() => concrete.add(word(1, 8), word(1, 9)), /operation on 8 and 9 bits/);
  assert.throws(() => symbolic.add(bv(1, 8), bv(1, 9)), /sum of 9 and 8 bits|sum of 8 and 9 bits/);
  assert.equal(evaluator.value(bv(3, 8)), 3n);
});
