import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkProof } from "../certificate.ts";
import { type Cnf, CnfBuilder } from "../cnf.ts";

function formula(variables: number, clauses: number[][]): Cnf {
  const builder = new CnfBuilder();
  builder.variables = variables;
  for (const clause of clauses) builder.clause(clause);
  return builder.build();
}

const text = (proof: string) => new TextEncoder().encode(proof);

/** Every choice of signs of three variables: contradictory, and not by units alone. */
const cube = formula(
  3,
  [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [1, 2, 3].map((v) => (n & (1 << (v - 1)) ? v : -v))),
);
const proofOfCube = "1 2 0\n1 -2 0\n1 0\n2 0\n0\n";

test("a proof is accepted and trimmed to what it needs", () => {
  const padded = `-1 2 3 0\n3 2 1 0\nd -1 2 3 0\n${proofOfCube}`;
  const verdict = checkProof(cube, text(padded), "text");
  assert.deepEqual({ ok: verdict.ok, reason: verdict.reason }, { ok: true, reason: "" });
  const again = checkProof(cube, verdict.trimmed, "binary");
  assert.equal(again.ok, true);
  assert.ok(again.lemmas < verdict.lemmas);
});

test("a clause that does not follow is refused by name", () => {
  const verdict = checkProof(cube, text("1 0\n2 0\n0\n"), "text");
  assert.deepEqual(verdict.reason, "the clause 1 does not follow by unit propagation");
  assert.equal(verdict.ok, false);
});

test("a proof that uses a clause it deleted is refused", () => {
  assert.equal(
    checkProof(cube, text("d 1 2 3 0\nd 1 2 -3 0\n1 2 0\n1 -2 0\n1 0\n2 0\n0\n"), "text").ok,
    false,
  );
  assert.equal(
    checkProof(cube, text("1 2 0\nd 1 2 3 0\nd 1 2 -3 0\n1 -2 0\n1 0\n2 0\n0\n"), "text").ok,
    true,
  );
});

test("a proof without an end, or of garbage, is refused", () => {
  assert.equal(checkProof(cube, text("1 2 0\n"), "text").reason, "the proof ends without a contradiction");
  assert.equal(checkProof(cube, text("0\n"), "text").reason, "the proof ends without a contradiction");
  assert.match(checkProof(cube, text("1 2\n"), "text").reason, /bad line/);
  assert.match(checkProof(cube, text("9 0\n"), "text").reason, /unknown variable/);
  assert.match(checkProof(cube, text("zzz"), "binary").reason, /byte 0 begins no step/);
  assert.match(checkProof(cube, Uint8Array.of(0x61, 0x80), "binary").reason, /no end/);
});

test("a formula that units contradict needs no proof", () => {
  assert.equal(checkProof(formula(1, [[1], [-1]]), text(""), "text").ok, true);
  assert.equal(checkProof(formula(1, [[]]), text(""), "text").ok, true);
});

const literal = fc.integer({ min: 1, max: 5 }).chain((v) => fc.constantFrom(v, -v));
const clause = fc.array(literal, { minLength: 1, maxLength: 4 });

/** Whether some assignment of five variables satisfies every clause. */
function satisfiable(clauses: number[][]): boolean {
  for (let n = 0; n < 32; n++) {
    const holds = (l: number) => ((n >> (Math.abs(l) - 1)) & 1) === (l > 0 ? 1 : 0);
    if (clauses.every((c) => c.some(holds))) return true;
  }
  return false;
}

test("no sequence of steps proves that a satisfiable formula has no solution", () => {
  let accepted = 0;
  fc.assert(
    fc.property(
      fc.array(clause, { maxLength: 26 }),
      fc.array(
        fc.tuple(
          fc.boolean(),
          fc.oneof(
            clause,
            literal.map((l) => [l]),
          ),
        ),
        { maxLength: 14 },
      ),
      (clauses, steps) => {
        const proof = steps.map(([remove, c]) => `${remove ? "d " : ""}${c.join(" ")} 0\n`).join("");
        const verdict = checkProof(formula(5, clauses), text(proof), "text");
        if (!verdict.ok) return;
        accepted++;
        assert.equal(satisfiable(clauses), false);
        assert.equal(checkProof(formula(5, clauses), verdict.trimmed, "binary").ok, true);
      },
    ),
    { numRuns: 4000 },
  );
  assert.ok(accepted > 50, `${accepted} accepted`);
});
