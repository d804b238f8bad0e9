import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { add, eq, implies, mul, ne, not, ule, ult } from "../build.ts";
import { ResultCache } from "../cache.ts";
import { ExecutionError } from "../executor.ts";
import { decode } from "../module.ts";
import { mutants } from "../mutation.ts";
import { type Goal, type ProveOptions, prove, type Result } from "../prover.ts";
import { type Answer, findSolvers, type Solver } from "../solver.ts";
import { apply, bv, FALSE, type Term, TRUE, variable } from "../term.ts";
import { walkProblem, zeroProblem } from "./pagetable.ts";
import { compile } from "./wasm.ts";

const cadical = await findSolvers({ only: ["cadical"] }).catch(() => undefined);
const skip = cadical ? false : "no cadical here";
const solvers = cadical ?? [];
const folder = mkdtempSync(join(tmpdir(), "microv-test-"));
after(() => rmSync(folder, { recursive: true }));

const [x, y] = [variable("x", 16), variable("y", 16)];
const goal = (name: string, formula: Term, path = TRUE): Goal => ({ name, path, goal: formula });
const distributes = eq(mul(add(x, y), bv(77, 16)), add(mul(x, bv(77, 16)), mul(bv(77, 16), y)));
const small = ult(x, bv(10, 16));
const problem = (goals: readonly Goal[], hypotheses: readonly Term[] = [small]) => ({
  name: "problem",
  hypotheses,
  goals,
});
const ask = (goals: readonly Goal[], options: Partial<ProveOptions> = {}, hypotheses?: readonly Term[]) =>
  prove([problem(goals, hypotheses)], { solvers, parallel: 1, ...options });

test("each kind of result is told apart, in the order of the goals", { skip }, async () => {
  const results = await ask([
    goal("true", ult(x, bv(20, 16))),
    goal("evident", distributes),
    goal("false", ult(x, bv(5, 16))),
    goal("never asked", eq(x, y), ult(bv(20, 16), x)),
    goal("trap", FALSE, ult(bv(20, 16), x)),
    goal("squares", ult(mul(x, x), bv(82, 16)), not(eq(x, bv(0, 16)))),
  ]);
  assert.deepEqual(
    results.map((r) => `${r.name}: ${r.status}`),
    [
      "true: proved",
      "evident: proved",
      "false: failed",
      "never asked: vacuous",
      "trap: proved",
      "squares: proved",
    ],
  );
  const failed = results[2] as Result;
  assert.ok(
    failed.status === "failed" && failed.model.variable("x") >= 5n && failed.model.variable("x") < 10n,
  );
});

test("contradictory hypotheses prove nothing", { skip }, async () => {
  const results = await ask([goal("anything", eq(x, y))], {}, [small, ult(bv(11, 16), x)]);
  assert.equal(results[0]?.status, "vacuous");
});

test("goals of one name are one question, and the failing one is named", { skip }, async () => {
  const goals = [
    { ...goal("range", ule(x, bv(9, 16))), where: "a.ts:1" },
    { ...goal("range", ne(x, bv(7, 16))), where: "a.ts:2" },
  ];
  const [result] = await ask(goals);
  assert.ok(result?.status === "failed" && result.goal.where === "a.ts:2");
});

test("a certificate is demanded and checked", { skip }, async () => {
  const [u, v] = [variable("u", 6), variable("v", 6)];
  const hard = goal("associates", eq(mul(mul(u, v), u), mul(v, mul(u, u))));
  const [result] = await ask([goal("squares", ult(mul(x, x), bv(82, 16))), hard], { certify: true });
  assert.ok(result?.status === "proved" && result.certified);
});

/** A solver that answers every question in the same way. */
const constantSolver = (answer: Answer): Solver => ({
  name: "liar",
  certifies: true,
  solve: async () => answer,
  close: () => {},
});

test("a solver that says unsat without a good certificate proves nothing when certifying", async () => {
  const goals = [goal("false", ult(x, bv(5, 16)))];
  const without = constantSolver({ status: "unsat", solver: "liar", proof: undefined });
  const [first] = await ask(goals, { solvers: [without], certify: true });
  assert.ok(first?.status === "unknown" && first.reason === "liar gives no certificate");
  const proof = { bytes: new TextEncoder().encode("0\n"), format: "text" as const };
  const [second] = await ask(goals, {
    solvers: [constantSolver({ status: "unsat", solver: "liar", proof })],
    certify: true,
  });
  assert.ok(second?.status === "unknown" && /the certificate was refused/.test(second.reason));
  const [third] = await ask(goals, {
    solvers: [constantSolver({ status: "unknown", solver: "liar", reason: "out of memory" })],
  });
  assert.ok(third?.status === "unknown" && third.reason === "liar: out of memory");
});

test("facts about every entry are used where the goal reads", { skip }, async () => {
  const read = (key: Term) => apply("table", 16, key);
  const facts = [{ memory: "table", at: (key: Term) => ult(read(key), bv(100, 16)) }];
  const goals = [
    goal("chained", ult(read(read(x)), bv(100, 16))),
    goal("too strong", ult(read(y), bv(99, 16))),
  ];
  const results = await prove([{ ...problem(goals), entryFacts: facts }], { solvers, parallel: 1 });
  assert.deepEqual(
    results.map((r) => r.status),
    ["proved", "failed"],
  );
});

test("a second round of entry facts is tried before a goal counts as failed", { skip }, async () => {
  const next = (key: Term) => apply("next", 16, key);
  const facts = [
    { memory: "next", at: (key: Term) => implies(ult(key, bv(50, 16)), eq(next(next(key)), key)) },
  ];
  const goals = [goal("back again", eq(next(next(x)), x))];
  const status = async (rounds: number) =>
    (await prove([{ ...problem(goals), entryFacts: facts }], { solvers, rounds }))[0]?.status;
  assert.equal(await status(2), "proved");
});

const files = () => readdirSync(folder).map((name) => join(folder, name));

test("answers are kept, and survive neither tampering nor another question", { skip }, async () => {
  const goals = [goal("squares", ult(mul(x, x), bv(82, 16))), goal("false", ult(x, bv(5, 16)))];
  const run = async (trust: "recheck" | "believe", list = goals) => {
    const cache = new ResultCache(folder, trust);
    const results = await ask(list, { cache, certify: true });
    return {
      statuses: results.map((r) => r.status),
      solvers: results.map((r) => r.solver),
      rejected: cache.rejected,
    };
  };
  await run("recheck");
  const again = await run("recheck");
  assert.deepEqual(again.statuses, ["proved", "failed"]);
  assert.ok(again.solvers.every((s) => s.startsWith("cache (cadical")));
  const believed = await ask(goals, { cache: new ResultCache(folder, "believe") });
  assert.deepEqual(
    believed.map((r) => `${r.status} ${r.solver.slice(0, 5)} ${r.status === "proved" && r.certified}`),
    ["proved cache false", "failed cache false"],
  );

  for (const file of files())
    writeFileSync(file, readFileSync(file, "utf8").replaceAll("sat", "unsat").replaceAll("ununsat", "sat"));
  const tampered = await run("believe");
  assert.deepEqual(tampered.statuses, ["proved", "failed"]);
  assert.ok(
    tampered.rejected.length > 0 &&
      tampered.rejected.every((r) => /contents are not those that were written/.test(r)),
  );
});

test("a forged entry with a good digest is caught by the check of its evidence", { skip }, async () => {
  const { createHash } = await import("node:crypto");
  const goals = [goal("false", ult(mul(x, x), bv(17, 16)))];
  await ask(goals, { cache: new ResultCache(folder, "recheck"), certify: true });
  for (const file of files()) {
    const text = readFileSync(file, "utf8");
    const stored = JSON.parse(text.slice(text.indexOf("\n") + 1));
    const forged = JSON.stringify({
      ...stored,
      status: "unsat",
      proof: Buffer.from([0x61, 0]).toString("base64"),
      model: undefined,
    });
    writeFileSync(file, `${createHash("sha256").update(forged).digest("hex")}\n${forged}`);
  }
  const cache = new ResultCache(folder, "recheck");
  const [result] = await ask(goals, { cache, certify: true });
  assert.equal(result?.status, "failed");
  assert.ok(cache.rejected.some((r) => /its proof was refused/.test(r)));
});

test("the page table is proved, every certificate checked", { skip }, async () => {
  const { wasm, map } = await compile("pagetable");
  const module = decode(wasm);
  const problems = [walkProblem(module, "map", map), walkProblem(module, "unmap", map), zeroProblem(module)];
  const results = await prove(problems, { solvers, certify: true });
  assert.deepEqual(
    results.filter((r) => r.status !== "proved"),
    [],
  );
  assert.ok(results.length > 25 && results.every((r) => r.status === "proved" && r.certified));
});

test("a wrong loop specification is not proved", { skip }, async () => {
  const module = decode((await compile("pagetable")).wasm);
  const wrong = zeroProblem(module, { variant: () => bv(7, 64) });
  const results = await prove([wrong], { solvers });
  assert.deepEqual(
    results.filter((r) => r.status !== "proved").map((r) => `${r.name}: ${r.status}`),
    ["loop: the variant decreases: failed"],
  );
});

/** Bugs by hand: text of the fixture, what it becomes, the function, and an obligation that must fail. */
const BUGS: [string, string, "map" | "unmap", RegExp][] = [
  ["  tlbi_ipa(root, ipa);\n", "", "unmap", /nothing is stale/],
  ["  pt_write(leaf, 0);\n  dsb();", "  pt_write(leaf, 0);", "unmap", /nothing is stale/],
  ["entryAddress(table, ipa, 12)", "entryAddress(table, ipa, 13)", "map", /every walk/],
  ["      page_zero(page);\n", "", "map", /a table is zero/],
  ["page + 4096", "page", "map", /invariant holds|roots stay/],
  ["page >= POOL_END", "page > POOL_END", "map", /pool invariant|entry invariant/],
  ["if (ipa >> IPA_BITS) return -22;", "", "map", /return code/],
];

test("bugs in the source are found by the obligations that speak of them", { skip }, async () => {
  const file = join(dirname(fileURLToPath(import.meta.url)), "fixtures", "pagetable.ts");
  const source = readFileSync(file, "utf8");
  for (const [text, replacement, name, expected] of BUGS) {
    assert.ok(source.includes(text), text);
    const module = decode((await compile("pagetable", source.replace(text, replacement))).wasm);
    const results = await prove([walkProblem(module, name)], { solvers });
    const broken = results.filter((r) => r.status === "failed").map((r) => r.name);
    assert.ok(
      broken.some((title) => expected.test(title)),
      `${text} -> ${replacement}: ${broken.join(", ")}`,
    );
  }
});

test("mutants of the wasm are killed", { skip }, async () => {
  const { wasm } = await compile("pagetable");
  const list = mutants(wasm, { sample: 12, seed: 5, only: (f) => f.exports.includes("unmap") });
  const survivors: string[] = [];
  for (const mutant of list) {
    try {
      const results = await prove([walkProblem(decode(mutant.bytes), "unmap")], { solvers });
      if (results.every((r) => r.status === "proved")) survivors.push(mutant.id);
    } catch (error) {
      assert.ok(error instanceof ExecutionError, String(error));
    }
  }
  const equivalent = /constant 48 with bit ([6-9]|[1-6]\d) flipped/; // an amount of a shift, which counts modulo 64
  assert.deepEqual(
    survivors.filter((id) => !equivalent.test(id)),
    [],
  );
});
