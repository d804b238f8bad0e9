import assert from "node:assert/strict";
import { test } from "node:test";
import { verify } from "../farm.ts";
import { compile } from "./wasm.ts";

test("a process that is full is replaced, and no task is lost with it", { timeout: 60_000 }, async () => {
  const { wasm } = await compile("arithmetic");
  const claims = new URL("fixtures/lemmas.claims.ts", import.meta.url).href;
  const limits = { milliseconds: 10_000, megabytes: 500 };
  const { verdicts } = await verify({ claims, wasm, certify: false, ...limits, processes: 2, mostTerms: 0 });
  const lemmas = verdicts.filter(({ name }) => name.startsWith("lemma"));
  assert.deepEqual(
    lemmas.map(({ status }) => status),
    Array.from({ length: 6 }, () => "proved"),
  );
});
