import assert from "node:assert/strict";
import { test } from "node:test";
import { sub } from "../build.ts";
import { ConcreteMachine, compareWithEngine, Trap } from "../concrete.ts";
import { decode } from "../module.ts";
import { NUMERIC } from "../numeric.ts";
import { SourceMap } from "../sourcemap.ts";
import type { Term } from "../term.ts";
import { compile } from "./wasm.ts";

const OPERATIONS: Record<string, bigint> = { words: 25n, longs: 24n, memory_mix: 11n };

/** Small operation numbers for the functions that dispatch on one, so that few calls end in `unreachable`. */
function operation(name: string, random: () => bigint): bigint[] | undefined {
  const count = OPERATIONS[name];
  if (count === undefined) return undefined;
  return [random() % count, random(), random()];
}

test("the executor computes what the engine computes, instruction by instruction", async () => {
  const { wasm } = await compile("arithmetic");
  const result = compareWithEngine(wasm, { calls: 1500, seed: 7, arguments: operation });
  assert.deepEqual(result.differences, []);
  assert.ok(result.traps > 50 && result.traps < 1000, `${result.traps} traps`);
  assert.ok(result.refused > 10);
});

test("short runs end in equal memories", async () => {
  const { wasm } = await compile("arithmetic");
  for (let seed = 1; seed <= 6; seed++) {
    const only = (name: string, random: () => bigint) =>
      name === "memory_mix" || name === "peek"
        ? operation("memory_mix", random)?.slice(0, name === "peek" ? 1 : 3)
        : operation(name, random);
    assert.deepEqual(compareWithEngine(wasm, { calls: 6, seed, arguments: only }).differences, []);
  }
});

test("the page table runs as in the engine", async () => {
  const { wasm } = await compile("pagetable");
  const result = compareWithEngine(wasm, { calls: 100, seed: 3 });
  assert.deepEqual(result.differences, []);
});

test("a wrong rule is noticed: an executor that subtracts where it should add differs", async () => {
  const { wasm } = await compile("arithmetic");
  const rules = NUMERIC as Map<string, (...args: Term[]) => Term>;
  const right = rules.get("i32.add") as (...args: Term[]) => Term;
  rules.set("i32.add", sub as (...args: Term[]) => Term);
  try {
    assert.notDeepEqual(
      compareWithEngine(wasm, { calls: 100, seed: 7, arguments: operation }).differences,
      [],
    );
  } finally {
    rules.set("i32.add", right);
  }
});

test("a trap tells what broke and on which line, and changes nothing", async () => {
  const source = "export function f(a: u32): u32 {\n  store<u32>(8, a);\n  return 100 / a;\n}";
  const { wasm, map } = await compile("division", source);
  const machine = new ConcreteMachine(decode(wasm), {}, new SourceMap(map));
  assert.equal(machine.call("f", 3n), 33n);
  assert.throws(
    () => machine.call("f", 0n),
    (error: Error) => error instanceof Trap && /not no division by zero .*division\.ts:3/.test(error.message),
  );
  assert.equal(machine.peek(8, 4), 3n);
});
