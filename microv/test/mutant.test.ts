import assert from "node:assert/strict";
import { test } from "node:test";
import { eq } from "../build.ts";
import { WordMemory } from "../linear.ts";
import { decode } from "../module.ts";
import { judgeMutant } from "../mutant.ts";
import { findSolvers, type Solver } from "../solver.ts";
import { initialState } from "../state.ts";
import { bv, type Term, TRUE, variable } from "../term.ts";
import type { Claims, ClaimsModule } from "../verify.ts";
import { compile } from "./wasm.ts";

/** A solver that never has an answer. */
const silent: Solver = {
  name: "silent",
  certifies: false,
  solve: async () => ({ status: "unknown", solver: "silent", reason: "it does not say" }),
  close() {},
};

/** Verdict on a change of a function that a lemma with this goal stands for, as `solvers` see it: it returns `result` instead of its argument. */
async function judge(
  goal: Term | (() => Term),
  solvers: readonly Solver[],
  result = "a + 1",
): Promise<string> {
  const returning = (value: string) =>
    compile("mutant", `export function f(a: u32): u32 { return ${value}; }`);
  const module = decode((await returning("a")).wasm);
  const { wasm } = await returning(result);
  const name = module.functions.find(({ exports }) => exports.includes("f"))?.name ?? "";
  const claims: Claims = {
    theory: {
      start: () => initialState(),
      invariants: [],
      hypotheses: [],
      models: {},
      linear: new WordMemory(),
    },
    contracts: [{ function: name, spec: (c) => c.result(32) }],
    unproved: [],
    byLemma: { [name]: "what it does" },
    lemmas: [
      {
        name: "what it does",
        hypotheses: [],
        get goals() {
          return [{ name: "it holds", path: TRUE, goal: typeof goal === "function" ? goal() : goal }];
        },
      },
    ],
    axioms: [],
  };
  const claimsModule: ClaimsModule = { claimsOf: () => claims, dependencies: () => "" };
  return (await judgeMutant(claimsModule, { module, solvers }, wasm, name)).status;
}

test("a lemma that fails kills, one that stands lets survive, and one without an answer is no verdict", async () => {
  const x = variable("x", 32);
  const [fails, stands] = [eq(x, bv(1, 32)), eq(eq(x, bv(1, 32)), eq(bv(1, 32), x))];
  const solvers = await findSolvers();
  assert.equal(await judge(fails, solvers), "killed");
  assert.equal(await judge(stands, solvers), "survived");
  assert.equal(await judge(stands, solvers, "a * 3 - 2 * a"), "equivalent");
  assert.equal(await judge(fails, [silent]), "undecided");
});

test("a lemma that cannot even be stated of the mutant kills", async () => {
  const unstated = () => {
    throw new Error("f does not return");
  };
  assert.equal(await judge(unstated, await findSolvers()), "killed");
});
