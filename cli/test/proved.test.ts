import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { temporaryFolder } from "../../boot/test/samples.ts";
import { provedState } from "../proved.ts";

const wasm = Buffer.from("\0asm and what follows");
const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const complete = {
  wasmSha256: hash(wasm),
  functions: 152,
  proved: 152,
  unproved: [] as string[],
  failed: 0,
  vacuous: 0,
};

async function verdict(test: TestContext, content: unknown): Promise<string> {
  const file = join(await temporaryFolder(test), "verdict.json");
  await writeFile(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

describe("what is proved of a core", () => {
  it("is everything when the verdict about these bytes says so", async (test) => {
    const file = await verdict(test, { ...complete, lemmas: 40, lemmasProved: 40 });
    assert.deepEqual(provedState(hash(wasm), file), {
      proved: true,
      functions: { proved: 152, all: 152 },
      words: "all 152 functions of these bytes are proved",
    });
  });

  it("is nothing when one byte has changed since", async (test) => {
    const file = await verdict(test, complete);
    const changed = Buffer.from(wasm);
    changed[5] = (changed[5] ?? 0) ^ 1;
    assert.deepEqual(provedState(hash(changed), file), {
      proved: false,
      functions: undefined,
      words: "not the proved bytes: run npm run verify",
    });
  });

  it("is so many functions when some are not proved, and never all of it", async (test) => {
    const some = { ...complete, proved: 129, unproved: Array.from({ length: 23 }, (_, i) => `f${i}`) };
    const state = provedState(hash(wasm), await verdict(test, some));
    assert.equal(state.proved, false);
    assert.equal(state.words, "of these bytes 129 of 152 functions are proved");
  });

  it("is not all of it while an obligation fails, is vacuous, or a function is listed as unproved", async (test) => {
    for (const [change, words] of [
      [{ failed: 1 }, /, 1 obligations failed$/],
      [{ vacuous: 2 }, /, 2 obligations are vacuous$/],
      [{ unproved: ["hostCall"] }, /152 of 152/],
      [{ lemmas: 40, lemmasProved: 39 }, /, 39 of 40 lemmas$/],
      [{ lemmas: 40 }, /, 0 of 40 lemmas$/],
      [{ functions: 0, proved: 0 }, /0 of 0/],
    ] as const) {
      const state = provedState(hash(wasm), await verdict(test, { ...complete, ...change }));
      assert.equal(state.proved, false, JSON.stringify(change));
      assert.match(state.words, words);
    }
  });

  it("is nothing without a verdict", async (test) => {
    const state = provedState(hash(wasm), join(await temporaryFolder(test), "none.json"));
    assert.deepEqual([state.proved, state.words], [false, "not proved: run npm run verify"]);
  });

  it("is nothing when the verdict is damaged", async (test) => {
    for (const content of [
      "{",
      "null",
      {},
      { ...complete, proved: "152" },
      { ...complete, unproved: 0 },
      { ...complete, failed: -1 },
    ]) {
      const state = provedState(hash(wasm), await verdict(test, content));
      assert.equal(state.proved, false);
      assert.match(state.words, /^not proved: .*verdict\.json is damaged, run npm run verify$/);
    }
  });
});
