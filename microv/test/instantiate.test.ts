import assert from "node:assert/strict";
import { test } from "node:test";
import { and, eq, ult } from "../build.ts";
import { type EntryFact, instantiate } from "../instantiate.ts";
import { Memory } from "../memory.ts";
import { bv, type Term, variable } from "../term.ts";

const base = Memory.arbitrary("m", 8, 8);
const key = (value: number): Term => bv(value, 8);
const x = variable("x", 8);

test("a fact is given at each key at which the memory's base is read, and nowhere else", () => {
  const written = base.store(x, key(1));
  const elsewhere = eq(Memory.arbitrary("n", 8, 8).read(key(7)), key(2));
  const formula = and(eq(written.read(key(4)), key(2)), ult(written.read(x), key(3)), elsewhere);
  const small: EntryFact = { memory: "m", at: (at) => ult(base.read(at), key(9)) };
  const other: EntryFact = { memory: "another", at: () => assert.fail("is not read") };
  const { instances, complete } = instantiate([formula], [small, other], 1);
  assert.deepEqual(instances, [small.at(key(4))]);
  assert.equal(complete, true);
});

test("instances that read further entries give more in the next round", () => {
  const next: EntryFact = { memory: "m", at: (at) => ult(base.read(at), base.read(base.read(at))) };
  const formula = eq(base.read(x), key(0));
  const [first, second] = [x, base.read(x)].map((at) => next.at(at));
  assert.deepEqual(instantiate([formula], [next], 1), { instances: [first], complete: false });
  assert.deepEqual(instantiate([formula], [next], 2), { instances: [first, second], complete: false });
});
