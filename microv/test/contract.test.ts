import assert from "node:assert/strict";
import { test } from "node:test";
import { and, eq, extract, implies, ne, sub, ule, ult, zext } from "../build.ts";
import { type Contract, functionProblem, type Theory } from "../contract.ts";
import { WordMemory } from "../linear.ts";
import { Memory } from "../memory.ts";
import { decode } from "../module.ts";
import { prove } from "../prover.ts";
import { findSolvers } from "../solver.ts";
import { initialState, type State } from "../state.ts";
import { bv, type Term } from "../term.ts";
import { compile } from "./wasm.ts";

const theory: Theory = {
  start: () => initialState(),
  invariants: [],
  hypotheses: [],
  models: {},
  linear: new WordMemory(),
};

test("what a call promises proves nothing about what it asks", async () => {
  const { wasm } = await compile(
    "core",
    `export function small(a: u32): u32 { let r: u32 = 0; for (let i: u32 = 0; i < a; i++) r += 1; return r; }
     export function caller(a: u32): u32 { return small(a) + 1; }`,
  );
  const module = decode(wasm);
  const named = (name: string) => module.functions.find(({ exports }) => exports.includes(name))?.name ?? "";
  const contracts: Contract[] = [
    {
      function: named("small"),
      spec(c) {
        const [a] = c.args as [Term];
        c.require("it is small", ult(a, bv(10, 32)));
        const result = c.result(32);
        c.ensure("it is the argument", eq(result, a));
        c.ensure("it is small", ult(result, bv(10, 32)));
        return result;
      },
    },
    {
      function: named("caller"),
      spec(c) {
        const result = c.result(32);
        c.ensure("it is small", ult(result, bv(11, 32)));
        return result;
      },
    },
  ];
  const problem = functionProblem(module, theory, contracts, contracts[1] as Contract);
  const results = await prove([problem], { solvers: await findSolvers() });
  const status = Object.fromEntries(results.map((result) => [result.name, result.status]));
  assert.deepEqual(status, { "small asks: it is small": "failed", "it is small": "proved" });
});

/** Proves, of a function that stores bits with the primitive `put`, that it stores 1 at `a` and clears none. */
async function includes(body: string): Promise<Record<string, string>> {
  const { wasm } = await compile(
    "include",
    `@external("machine", "put") declare function put(at: u32, bit: u32): void;
     export function f(a: u32): void { ${body} }`,
  );
  const module = decode(wasm);
  const bits: Theory = {
    ...theory,
    start: () => initialState({ bits: Memory.arbitrary("bits", 32, 1) }),
    models: {
      "machine.put": ({ state, args: [at, bit] }) => {
        state.memories.bits = (state.memories.bits as Memory).store(at as Term, extract(0, 0, bit as Term));
      },
    },
  };
  const contract: Contract = {
    function: module.functions.find(({ exports }) => exports.includes("f"))?.name ?? "",
    spec: (c) => c.include("bits", c.args[0] as Term),
  };
  const problem = functionProblem(module, bits, [contract], contract);
  const results = await prove([problem], { solvers: await findSolvers() });
  return Object.fromEntries(
    results.filter(({ status }) => status !== "proved").map((one) => [one.name, one.status]),
  );
}

test("what is included is stored, perhaps among more, and nothing is taken out", async () => {
  assert.deepEqual(await includes("put(a, 1);"), {});
  assert.deepEqual(await includes("put(a, 1); put(a + 1, 1);"), {});
  assert.deepEqual(await includes("put(a + 1, 1);"), { "bits has what is stated (0)": "failed" });
  assert.deepEqual(await includes("put(a, 1); put(a + 1, 0);"), { "bits only grows": "failed" });
});

/** Proves, of a loop that looks at the first `a` bits with the primitive `get`, that all are 1 where it says so. */
async function looks(at: string): Promise<readonly string[]> {
  const { wasm } = await compile(
    "looks",
    `@external("machine", "get") declare function get(at: u32): u32;
     export function f(a: u32): u32 {
       let all: u32 = 1;
       for (let i: u32 = 0; i < a; i++) all = all & get(${at});
       return all;
     }`,
  );
  const module = decode(wasm);
  const bit = (state: State, key: Term) => (state.memories.bits as Memory).read(key);
  const bits: Theory = {
    ...theory,
    start: () => initialState({ bits: Memory.arbitrary("bits", 32, 1) }),
    models: { "machine.get": ({ state, args }) => zext(bit(state, args[0] as Term), 32) },
  };
  const [I, ALL] = [1, 2];
  const contract: Contract = {
    function: module.functions.find(({ exports }) => exports.includes("f"))?.name ?? "",
    loops: {
      0: {
        invariant: (now) => ({ "it is found out, or not": ule(now.locals[ALL] as Term, bv(1, 32)) }),
        variant: (now) => sub(now.locals[0] as Term, now.locals[I] as Term),
        everywhere: (now, entry) => ({
          "nothing changes": { memory: "bits", at: (key) => eq(bit(now, key), bit(entry, key)) },
          "what was seen is 1": {
            memory: "bits",
            at: (key) => {
              const seen = and(ne(now.locals[ALL] as Term, bv(0, 32)), ult(key, now.locals[I] as Term));
              return implies(seen, eq(bit(now, key), bv(1, 1)));
            },
          },
        }),
        memories: { bits: "any" },
      },
    },
    spec: (c) => c.result(32),
  };
  const problem = functionProblem(module, bits, [contract], contract);
  const results = await prove([problem], { solvers: await findSolvers() });
  return results.filter(({ status }) => status !== "proved").map(({ name }) => name);
}

test("what a loop is to keep is not assumed at its end, where its body changes nothing", async () => {
  assert.deepEqual(await looks("i"), []);
  assert.deepEqual(await looks("i >> 1"), ["loop: what was seen is 1 after an iteration"]);
});
