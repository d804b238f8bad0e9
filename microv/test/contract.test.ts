import assert from "node:assert/strict";
import { test } from "node:test";
import { eq, ult } from "../build.ts";
import { type Contract, functionProblem, type Theory } from "../contract.ts";
import { WordMemory } from "../linear.ts";
import { decode } from "../module.ts";
import { prove } from "../prover.ts";
import { findSolvers } from "../solver.ts";
import { initialState } from "../state.ts";
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
