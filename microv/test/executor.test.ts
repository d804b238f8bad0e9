import assert from "node:assert/strict";
import { test } from "node:test";
import { add, and, eq, ite, ule, ult } from "../build.ts";
import { Evaluator } from "../evaluate.ts";
import { Executor } from "../executor.ts";
import { WordMemory } from "../linear.ts";
import type { CallModel, ExecutorOptions } from "../model.ts";
import { decode } from "../module.ts";
import { SourceMap } from "../sourcemap.ts";
import { initialState, type State } from "../state.ts";
import { bv, FALSE, show, size, type Term, TRUE, variable, variablesOf } from "../term.ts";
import { assignment } from "./formulas.ts";
import { compile } from "./wasm.ts";

async function execute(
  source: string,
  name: string,
  options: ExecutorOptions = {},
  state = initialState(),
  args?: Term[],
) {
  const { wasm, map } = await compile("core", source);
  const module = decode(wasm);
  const executor = new Executor(module, { sourceMap: new SourceMap(map), ...options });
  const f = module.functions.find((g) => g.exports.includes(name));
  const inputs = args ?? (f?.params ?? []).map((width, i) => variable(`a${i}`, width));
  return { executor, outcome: executor.run(name, state, inputs) };
}

const [a0, a1] = [variable("a0", 32), variable("a1", 32)];

test("branches merge into one state with choices for values", async () => {
  const source = "export function max(a: u32, b: u32): u32 { if (a > b) return a; return b; }";
  const { outcome, executor } = await execute(source, "max");
  assert.equal(outcome?.result, ite(ult(a1, a0), a0, a1));
  assert.equal(outcome?.state.path, TRUE);
  assert.deepEqual(executor.obligations, []);
});

test("forty branches one after the other take forty merges, not two to the forty paths", async () => {
  const source = `export function f(a: u32): u32 { let n: u32 = 0; for (let i: u32 = 0; i < 32; i++) { if (a >> i & 1) n = n * 3 + i; } return n; }`;
  const { outcome } = await execute(source, "f");
  assert.ok(size(outcome?.result as Term) < 1000);
});

test("a trap is an obligation with its line, under the path that leads there", async () => {
  const source =
    "export function f(a: i32, b: i32): i32 {\n  if (b > 5)\n    return a / b;\n  return a % b;\n}";
  const { executor } = await execute(source, "f");
  const list = executor.obligations.map((o) => `${o.name} ${o.where}: ${show(o.path)} => ${show(o.goal)}`);
  assert.deepEqual(list, [
    "no division by zero core.ts:3: 5 <s a1 => !(a1 = 0)",
    "no overflow in a division core.ts:3: 5 <s a1 => !((a0 = 0x80000000) && (a1 = 0xffffffff))",
    "no division by zero core.ts:4: !(5 <s a1) => !(a1 = 0)",
  ]);
});

test("unreachable ends a path", async () => {
  const { executor, outcome } = await execute(
    "export function f(a: u32): u32 { if (a) unreachable(); return 7; }",
    "f",
  );
  assert.equal(executor.obligations[0]?.goal, FALSE);
  assert.equal(outcome?.state.path, eq(a0, bv(0, 32)));
  assert.equal((await execute("export function f(): void { unreachable(); }", "f")).outcome, undefined);
});

test("a switch excludes its cases from each other", async () => {
  const source = `export function f(a: u32): u32 {
    switch (a) { case 0: return 10; case 1: return 11; case 2: case 3: return 12; case 5: return 15; default: return 99; } }`;
  const { outcome } = await execute(source, "f");
  for (const [input, expected] of [
    [0n, 10n],
    [1n, 11n],
    [2n, 12n],
    [3n, 12n],
    [4n, 99n],
    [5n, 15n],
    [6n, 99n],
  ]) {
    const evaluator = new Evaluator({ ...assignment(0), variable: () => input as bigint });
    assert.equal(evaluator.value(outcome?.result as Term), expected);
  }
});

test("accesses out of bounds and unaligned ones are obligations, evident ones are not", async () => {
  const source =
    "export function f(a: usize): u32 { store<u32>(64, 5); return load<u32>(64) + load<u16>(a); }";
  const state = initialState({ linear: WordMemory.arbitrary("linear") });
  const { executor } = await execute(source, "f", {}, state);
  assert.deepEqual(
    executor.obligations.map((o) => o.name),
    ["linear memory is accessed in bounds", "linear memory is accessed aligned"],
  );
  assert.ok(executor.evident > 0);
});

const ticker = `
declare function tick(n: u32): u32;
export function twice(a: u32): u32 { return inner(a) + inner(a + 1); }
function inner(a: u32): u32 { const b = tick(a); return (b ^ (a + 7)) * (a | b); }
`;

test("a model gives results, demands and facts; fresh values are fresh at each call", async () => {
  const model: CallModel = ({ args, oblige, fresh, assume }) => {
    oblige("small", ult(args[0] as Term, bv(100, 32)));
    const value = fresh("t", 32);
    assume(ult(value, bv(10, 32)));
    return value;
  };
  const { executor, outcome } = await execute(ticker, "twice", { models: { "core.tick": model } });
  assert.equal(executor.obligations.length, 2);
  assert.equal(executor.facts.length, 2);
  const names = variablesOf(outcome?.result as Term).map((v) => v.name);
  assert.deepEqual(names.length, 3);
  assert.equal(names.filter((name) => /^t@twice\+\w+\.inner\+\w+$/.test(name)).length, 2);
});

test("a contract stands for a function", async () => {
  const contract: CallModel = ({ args }) => add(args[0] as Term, bv(1, 32));
  const { outcome } = await execute(ticker, "twice", { contracts: { inner: contract } });
  assert.equal(outcome?.result, add(a0, a0, bv(3, 32)));
});

test("names that mean nothing and models of the wrong shape are refused", async () => {
  await assert.rejects(
    execute(ticker, "twice", { contracts: { outer: () => {} } }),
    /no function is called outer/,
  );
  await assert.rejects(
    execute(ticker, "twice", { loops: { "inner#0": { unroll: 4 } } }),
    /there is no loop inner#0: inner has 0/,
  );
  await assert.rejects(
    execute(ticker, "twice"),
    /no model of the import core\.tick \(core\/inner, core\.ts:4\)/,
  );
  await assert.rejects(
    execute(ticker, "twice", { models: { "core.tick": () => bv(0, 64) } }),
    /model of core\.tick returns 64 bits/,
  );
  await assert.rejects(
    execute(ticker, "twice", {}, initialState(), [bv(0, 64)]),
    /takes \(32\) bits, not \(64\)/,
  );
  const recursive = "export function f(n: u32): u32 { return n ? f(n - 1) + 1 : 0; }";
  await assert.rejects(execute(recursive, "f"), /recursion is not supported: core\/f calls core\/f/);
});

const counting = `export function f(n: u32): u32 {
  let s: u32 = 0;
  for (let i: u32 = 0; i < n; i++) s += 3;
  return s;
}`;

test("a loop that does not fold is refused with its line", async () => {
  await assert.rejects(
    execute(counting, "f"),
    /loop core\/f#0 does not fold after 65 iterations: give it a loop specification \(core\/f, core\.ts:3\)/,
  );
});

test("a loop with a symbolic bound is unrolled as far as it is told to", async () => {
  const bounded = counting.replace("i < n", "i < (n & 3)");
  const { outcome } = await execute(bounded, "f", { loops: { "f#0": { unroll: 10 } } });
  assert.equal(outcome?.state.path, TRUE);
});

/** Locals of `f` above as the compiler numbers them: the counter and the sum, whichever is which. */
const locals = (state: State) => state.locals.slice(1) as Term[];

test("a loop with an invariant runs once, from an arbitrary iteration", async () => {
  const { executor, outcome } = await execute(counting, "f", {
    loops: {
      "f#0": {
        invariant: (now) => ({
          "the sum is three times the counter": isTriple(now),
          "the counter is in range": inRange(now),
        }),
        variant: (now) => add(now.locals[0] as Term, ...locals(now).map(() => bv(0, 32))),
      },
    },
  });
  const names = new Set(executor.obligations.map((o) => o.name));
  assert.deepEqual([...names].sort(), [
    "loop: the counter is in range after an iteration",
    "loop: the counter is in range at entry",
    "loop: the sum is three times the counter after an iteration",
    "loop: the sum is three times the counter at entry",
    "loop: the variant decreases",
  ]);
  assert.ok(executor.facts.length >= 2);
  assert.notEqual(outcome, undefined);
});

function isTriple(state: State): Term {
  const [x, y] = locals(state) as [Term, Term];
  return and(ule(bv(0, 32), x), eq(add(x, x, x), y));
}

function inRange(state: State): Term {
  return ule(locals(state)[0] as Term, state.locals[0] as Term);
}

test("a loop that changes what its specification does not list is refused", async () => {
  const source =
    "export function f(n: u32): void { for (let i: u32 = 0; i < n; i++) store<u64>(i << 3, 0); }";
  const state = initialState({ linear: WordMemory.arbitrary("linear") });
  const loops = { "f#0": { variant: () => bv(0, 32) } };
  await assert.rejects(
    execute(source, "f", { loops }, state),
    /the loop changes the memory linear, which its specification does not list/,
  );
});

test("execution stops at its limits", async () => {
  const slow = counting.replace("i < n", "i < 4000000000");
  await assert.rejects(
    execute(slow, "f", { limits: { milliseconds: 50, iterations: 1e9 } }),
    /execution takes too long \(core\/f, core\.ts:3\)/,
  );
  await assert.rejects(
    execute(slow, "f", { limits: { terms: 500, iterations: 1e9 } }),
    /execution makes too many terms/,
  );
});
