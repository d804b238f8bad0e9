import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { add, and, eq, implies, ult } from "../build.ts";
import { explain, format, mismatches } from "../counterexample.ts";
import { Evaluator, Model } from "../evaluate.ts";
import { Executor } from "../executor.ts";
import type { CallModel } from "../model.ts";
import { decode } from "../module.ts";
import { prove } from "../prover.ts";
import { findSolvers } from "../solver.ts";
import { SourceMap } from "../sourcemap.ts";
import { initialState } from "../state.ts";
import { bv, type Term, variable } from "../term.ts";
import { walkExecution, walkProblem } from "./pagetable.ts";
import { compile } from "./wasm.ts";

const cadical = await findSolvers({ only: ["cadical"] }).catch(() => undefined);
const skip = cadical ? false : "no cadical here";
const solvers = cadical ?? [];
const fixture = join(dirname(fileURLToPath(import.meta.url)), "fixtures", "pagetable.ts");

/** The fixture with `text` replaced, and the counterexample to the obligation called `name`. */
async function counterexampleTo(text: string, replacement: string, f: "map" | "unmap", name: RegExp) {
  const { wasm, map } = await compile("pagetable", readFileSync(fixture, "utf8").replace(text, replacement));
  const module = decode(wasm);
  const problem = walkProblem(module, f, map);
  const goals = problem.goals.filter((g) => name.test(g.name));
  const [result] = await prove([{ ...problem, goals }], { solvers });
  assert.ok(result?.status === "failed", result?.status);
  return explain(result.goal, result.model, walkExecution(module, f, map), {
    root: variable("root", 64),
    ipa: variable("ipa", 64),
  });
}

test("a forgotten TLB invalidation is shown with what the core did, line by line", { skip }, async () => {
  const example = await counterexampleTo("  tlbi_ipa(root, ipa);\n", "", "unmap", /nothing is stale/);
  assert.equal(example.doubt, undefined);
  assert.deepEqual(
    example.inputs.map((i) => i.name),
    ["root", "ipa"],
  );
  assert.match(example.trace[0] ?? "", /^unmap\(0x[0-9a-f]+, \S+\)$/);
  assert.equal(
    example.trace.filter((line) => /pt_read\(0x[0-9a-f]+\) = \S+ {3}pagetable\.ts:\d+/.test(line)).length,
    4,
  );
  assert.ok(example.trace.some((line) => /pt_write\(0x[0-9a-f]+, 0\) {3}pagetable\.ts:\d+/.test(line)));
  assert.equal(example.trace.at(-1), "return = 0");
  assert.equal(example.mismatches.length, 1);
  assert.deepEqual(example.mismatches[0]?.expected, "0");
  assert.match(format(example), /nothing is stale\n {2}with\n {4}root = 0x/);
});

test("a violated demand of a model is reported at its line and reproduced", { skip }, async () => {
  const example = await counterexampleTo("      page_zero(page);\n", "", "map", /a table is zero/);
  assert.equal(example.doubt, undefined);
  assert.match(example.where ?? "", /pagetable\.ts:\d+/);
  assert.ok(
    example.trace.some((line) =>
      /violated: a table is zero when it is linked {3}pagetable\.ts:\d+/.test(line),
    ),
  );
});

test("fresh values of models are those of the solver in the replay", { skip }, async () => {
  const source = `
declare function ask(i: u32): u32;
export function f(n: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < 3; i++) { if (n >> i & 1) sum += ask(i); }
  return sum;
}`;
  const { wasm, map } = await compile("asking", source);
  const ask: CallModel = ({ fresh, assume }) => {
    const value = fresh("answer", 32);
    assume(ult(value, bv(100, 32)));
    return value;
  };
  const n = variable("n", 32);
  const module = decode(wasm);
  const options = { models: { "asking.ask": ask }, sourceMap: new SourceMap(map) };
  const executor = new Executor(module, options);
  const outcome = executor.run("f", initialState(), [n]);
  const result = outcome?.result as Term;
  const goal = { name: "small", path: outcome?.state.path as Term, goal: ult(result, bv(250, 32)) };
  const [found] = await prove([{ name: "f", hypotheses: executor.facts, goals: [goal] }], { solvers });
  assert.ok(found?.status === "failed");
  const example = explain(goal, found.model, {
    module,
    function: "f",
    options,
    state: initialState(),
    args: [n],
  });
  const answers = example.trace.flatMap((line) => /ask\(\S+\) = (\S+)/.exec(line)?.[1] ?? []);
  assert.equal(answers.length, 3);
  const total = answers.reduce((sum, text) => sum + Number(text), 0);
  assert.ok(total >= 250);
  assert.equal(example.trace.at(-1), `return = 0x${total.toString(16)}`);
});

test("a model that the code does not follow is doubted", () => {
  const goal = {
    name: "anything",
    path: bv(0, 1),
    goal: eq(variable("x", 8), bv(1, 8)),
    kind: "model" as const,
  };
  const model = new Model();
  model.variables.set("x", 3n);
  const execution = { function: "f", options: {}, state: initialState(), args: [] };
  const module = decode(Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0]));
  const example = explain(goal, model, { ...execution, module });
  assert.match(example.doubt ?? "", /no function is called f/);
  assert.deepEqual(example.inputs, [{ name: "x", value: "3" }]);
});

test("only the parts of a goal that are false are shown, with expected and actual values", () => {
  const [x, y, p] = [variable("x", 8), variable("y", 8), variable("p", 0)];
  const model = new Model();
  model.variables.set("x", 12n).set("y", 3n).set("p", 1n);
  const evaluator = new Evaluator(model);
  const goal = and(ult(y, x), eq(add(x, y), bv(16, 8)), implies(p, ult(x, y)));
  assert.deepEqual(mismatches(goal, evaluator), [
    { claim: "(x + y) = 0x10", expected: "0x10", actual: "0xf" },
    { claim: "x < y", expected: "less than 3", actual: "0xc" },
  ]);
  assert.deepEqual(mismatches(eq(x, x), evaluator), []);
});
