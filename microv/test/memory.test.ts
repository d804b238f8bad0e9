import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { eq, extract, ite } from "../build.ts";
import { Evaluator } from "../evaluate.ts";
import { Memory } from "../memory.ts";
import { bv, FALSE, show, type Term, TRUE, variable } from "../term.ts";
import { assignment } from "./formulas.ts";

const key = (n: number) => bv(n, 8);

/** A write, done both to a {@link Memory} and to a plain array. */
type Write =
  | { kind: "store"; key: number; value: number; condition: boolean }
  | { kind: "zero"; page: number }
  | { kind: "copy"; from: number; to: number };

const write: fc.Arbitrary<Write> = fc.oneof(
  fc.record({
    kind: fc.constant("store" as const),
    key: fc.nat(15),
    value: fc.nat(255),
    condition: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("zero" as const), page: fc.nat(3) }),
  fc.record({ kind: fc.constant("copy" as const), from: fc.nat(3), to: fc.nat(3) }),
);

const page = (k: Term) => extract(7, 2, k);

function perform(memory: Memory, w: Write, symbol: (n: number) => Term): Memory {
  if (w.kind === "store")
    return memory.store(symbol(w.key), bv(w.value, 8), w.condition ? TRUE : variable("never", 0));
  if (w.kind === "zero") return memory.rewrite((k, old) => ite(eq(page(k), bv(w.page, 6)), bv(0, 8), old));
  return memory.rewrite((k, old) => {
    const source = bv(w.from * 4, 8);
    const inside = eq(page(k), bv(w.to, 6));
    const low = extract(1, 0, k);
    const from = [0, 1, 2, 3].map((n) => memory.read(bv(source.value + BigInt(n), 8)));
    return ite(
      inside,
      from.reduce((other, value, n) => ite(eq(low, bv(n, 2)), value, other)),
      old,
    );
  });
}

function performPlain(bytes: number[], w: Write): void {
  if (w.kind === "store") {
    if (w.condition) bytes[w.key] = w.value;
  } else if (w.kind === "zero") bytes.fill(0, w.page * 4, w.page * 4 + 4);
  else bytes.copyWithin(w.to * 4, w.from * 4, w.from * 4 + 4);
}

test("a memory behaves as an array, whether its keys are constants or variables", () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 12 }), fc.boolean(), (writes, constant) => {
      const symbol = (n: number) => (constant ? key(n) : variable(`k${n}`, 8));
      let memory = Memory.arbitrary("m", 8, 8);
      const base = assignment(5);
      const bytes = Array.from({ length: 16 }, (_, i) => Number(base.apply("m", [BigInt(i)], 8)));
      for (const w of writes) {
        memory = perform(memory, w, symbol);
        performPlain(bytes, w);
      }
      const evaluator = new Evaluator({
        variable: (name) => (name === "never" ? 0n : BigInt(name.slice(1))),
        apply: base.apply,
      });
      for (const [i, expected] of bytes.entries()) {
        assert.equal(evaluator.value(memory.read(symbol(i))), BigInt(expected));
        assert.equal(evaluator.value(memory.read(key(i))), BigInt(expected));
      }
    }),
    { numRuns: 300 },
  );
});

test("a merge reads either side", () => {
  const base = Memory.arbitrary("m", 8, 8);
  const c = variable("c", 0);
  const both = Memory.ite(c, base.store(key(1), bv(7, 8)), base.store(key(2), bv(9, 8)));
  assert.equal(show(both.read(key(1))), "c ? 7 : m(1)");
  assert.equal(show(both.read(key(3))), "m(3)");
  assert.equal(Memory.ite(FALSE, both, base), base);
});

test("twenty thousand writes are read through without overflowing the stack", () => {
  let memory = Memory.arbitrary("m", 32, 64);
  for (let i = 0; i < 20_000; i++) memory = memory.store(bv(i, 32), bv(i + 1, 64));
  assert.equal(memory.read(bv(0, 32)), bv(1, 64));
  assert.equal(show(memory.read(bv(99_999, 32))), "m(0x1869f)");
});

test("keys and values of the wrong width are refused", () => {
  const memory = Memory.arbitrary("m", 8, 16);
  assert.throws(() => memory.read(bv(0, 9)), /key of 9 bits for a 8 -> 16 bit memory/);
  assert.throws(() => memory.store(key(0), bv(0, 8)), /value of 8 bits/);
});
