import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { add, eq, mul, ne, not, ult, zext } from "../build.ts";
import { checkProof } from "../certificate.ts";
import { Certifier } from "../certifier.ts";
import { findSolvers, type NativeName, Query, type Solver } from "../solver.ts";
import { apply, bv, variable } from "../term.ts";
import { formula, toTerm } from "./formulas.ts";

const folder = mkdtempSync(join(tmpdir(), "microv-test-"));
after(() => rmSync(folder, { recursive: true }));
const limits = { milliseconds: 20_000, megabytes: 4000 };

async function only(name: NativeName | "wasm"): Promise<Solver | undefined> {
  try {
    return (await findSolvers({ only: [name], folder }))[0];
  } catch {
    return undefined;
  }
}
const cadical = await only("cadical");
const z3 = await only("z3");
const wasm = await only("wasm");
after(() => wasm?.close());
const missing = (solver: Solver | undefined, name: string) => (solver ? false : `no ${name} here`);

const [x, y] = [variable("x", 16), variable("y", 16)];
const [u, v] = [variable("u", 5), variable("v", 5)];
/** The square of a sum: contradictory, and not by units. */
const square = new Query([
  ne(mul(add(u, v), add(u, v)), add(mul(u, u), mul(v, v), mul(bv(2, 5), mul(u, v)))),
]);
const even = new Query([eq(add(x, x), y), ult(bv(5, 16), y), ne(apply("f", 16, x), apply("f", 16, y))]);

for (const [name, solver] of Object.entries({ cadical, z3, "z3-solver": wasm })) {
  test(`${name} answers, with a model that satisfies the query`, {
    skip: missing(solver, name),
  }, async () => {
    assert.equal((await solver?.solve(square, limits, false))?.status, "unsat");
    const answer = await solver?.solve(even, limits, false);
    assert.equal(answer?.status, "sat");
    assert.ok(answer?.status === "sat" && even.satisfiedBy(answer.model));
    assert.deepEqual(readdirSync(folder), []);
  });
}

test("cadical proves what the checker accepts, in another process too, and nothing else", {
  skip: missing(cadical, "cadical"),
}, async () => {
  const answer = await cadical?.solve(square, limits, true);
  assert.ok(answer?.status === "unsat" && answer.proof);
  const { bytes, format } = answer.proof;
  const { cnf } = square.blasted;
  const certifier = new Certifier(1);
  const verdict = await certifier.check({ cnf, proof: bytes, format });
  certifier.close();
  assert.equal(verdict.ok, true, verdict.reason);
  assert.ok(verdict.checked > 0);
  assert.equal(checkProof(cnf, verdict.trimmed, "binary").ok, true);
  assert.equal(checkProof(even.blasted.cnf, bytes, format).ok, false);
  assert.equal(checkProof(cnf, bytes.subarray(0, bytes.length >> 1), format).ok, false);
});

test("a tampered certificate is refused", { skip: missing(cadical, "cadical") }, async () => {
  const answer = await cadical?.solve(square, limits, true);
  assert.ok(answer?.status === "unsat" && answer.proof);
  const { cnf } = square.blasted;
  let refused = 0;
  for (let i = 1; i <= 20; i++) {
    const bytes = answer.proof.bytes.slice();
    const at = Math.floor((bytes.length * i) / 21);
    bytes[at] = (bytes[at] as number) ^ 1;
    if (!checkProof(cnf, bytes, "binary").ok) refused++;
  }
  assert.ok(refused > 0, `${refused} refused`);
  const satisfiable = new Query([ne(mul(u, v), mul(v, add(u, bv(1, 5))))]);
  assert.equal(checkProof(satisfiable.blasted.cnf, answer.proof.bytes, "binary").ok, false);
});

test("clauses and SMT-LIB mean the same to solvers", {
  skip: missing(cadical && z3, "cadical and z3"),
}, async () => {
  await fc.assert(
    fc.asyncProperty(formula(3), formula(2), async (a, b) => {
      const query = new Query([toTerm(a), not(toTerm(b))]);
      const [first, second] = [
        await cadical?.solve(query, limits, true),
        await z3?.solve(query, limits, true),
      ];
      assert.equal(first?.status, second?.status);
      if (first?.status === "unsat" && first.proof) {
        assert.ok(checkProof(query.blasted.cnf, first.proof.bytes, first.proof.format).ok);
      }
    }),
    { numRuns: 40 },
  );
});

/** A program in place of a solver. */
function impostor(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

test("a solver that crashes, lies, talks nonsense or never ends is never believed", async () => {
  const cases: [string, RegExp][] = [
    ["kill -SEGV $$", /crash: SIGSEGV/],
    ["echo terminate called: std::bad_alloc >&2; kill -ABRT $$", /out of memory/],
    ["echo hello; exit 3", /no answer: exit status 3, hello/],
    ["exit 20", /no answer: exit status 20/],
    ["echo s UNSATISFIABLE; exit 0", /no answer: exit status 0/],
    ["echo s SATISFIABLE; exit 10", /the model does not satisfy the query/],
    ["exec sleep 20", /timeout after 300 ms/],
  ];
  for (const [script, reason] of cases) {
    const path = impostor("cadical", `if [ "$1" = --version ]; then echo 1.0; exit; fi\n${script}`);
    const [solver] = await findSolvers({ only: ["cadical"], paths: { cadical: path }, folder });
    const answer = await solver?.solve(square, { milliseconds: 300, megabytes: 1000 }, true);
    assert.equal(answer?.status, "unknown", script);
    assert.match(answer?.status === "unknown" ? answer.reason : "", reason);
  }
  rmSync(join(folder, "cadical"));
  const smt: [string, RegExp][] = [
    ["echo '(error \"line 1\")'; echo unsat", /no answer/],
    ["echo sat", /the model does not satisfy the query/],
    ["echo unknown", /gave up/],
  ];
  for (const [script, reason] of smt) {
    const [solver] = await findSolvers({ only: ["z3"], paths: { z3: impostor("z3", script) }, folder });
    const answer = await solver?.solve(even, limits, false);
    assert.match(answer?.status === "unknown" ? answer.reason : "", reason, script);
  }
  rmSync(join(folder, "z3"));
});

test("limits on time and memory are kept", { skip: missing(cadical, "cadical") }, async () => {
  const [a, b] = [variable("a", 32), variable("b", 32)];
  const product = bv(2860486313n * 3267000013n, 64);
  const hard = new Query([eq(mul(zext(a, 64), zext(b, 64)), product), ult(bv(1, 32), a), ult(bv(1, 32), b)]);
  const slow = await cadical?.solve(hard, { milliseconds: 200, megabytes: 4000 }, true);
  assert.match(slow?.status === "unknown" ? slow.reason : "", /timeout after 200 ms/);
  const poor = await cadical?.solve(hard, { milliseconds: 20_000, megabytes: 8 }, true);
  assert.equal(poor?.status, "unknown");
  assert.deepEqual(readdirSync(folder), []);
});

test("a program that is not there is named", async () => {
  await assert.rejects(
    findSolvers({ paths: { cadical: "/nowhere/cadical" } }),
    /MICROV_CADICAL: \/nowhere\/cadical is not a program/,
  );
  await assert.rejects(findSolvers({ only: [] }), /no solver: install cadical/);
});

test("a process that ends as it starts a solver leaves no files behind", {
  skip: missing(cadical, "cadical"),
}, () => {
  const program = `
    const { findSolvers, Query } = await import("./solver.ts");
    const { variable } = await import("./term.ts");
    const [solver] = await findSolvers({ only: ["cadical"], folder: ${JSON.stringify(folder)} });
    solver.solve(new Query([variable("p", 1)]), ${JSON.stringify(limits)}, true);
    process.exit(7);`;
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const { status, stderr } = spawnSync(
    process.execPath,
    ["--import", "tsx", "--input-type=module", "-e", program],
    { cwd, encoding: "utf8" },
  );
  assert.equal(status, 7, stderr);
  assert.deepEqual(readdirSync(folder), []);
});
