import assert from "node:assert/strict";
import { test } from "node:test";
import { compareWithEngine } from "../concrete.ts";
import { decode } from "../module.ts";
import { mutants } from "../mutation.ts";
import { SourceMap } from "../sourcemap.ts";
import { compile } from "./wasm.ts";

test("mutants are valid, decodable, different from the original and from each other", async () => {
  const { wasm, map } = await compile("pagetable");
  const list = mutants(wasm, { sourceMap: new SourceMap(map) });
  assert.ok(list.length > 300, `${list.length}`);
  assert.equal(new Set(list.map((m) => m.id)).size, list.length);
  const texts = new Set(list.map((m) => Buffer.from(m.bytes).toString("base64")));
  assert.ok(!texts.has(Buffer.from(wasm).toString("base64")));
  assert.ok(texts.size > 0.97 * list.length);
  for (const mutant of list) decode(mutant.bytes);
  assert.ok(list.every((m) => /^pagetable\.ts:\d+$/.test(m.where) || m.where.startsWith("byte")));
});

test("every kind of change occurs", async () => {
  const { wasm } = await compile("pagetable");
  const changes = mutants(wasm).map((m) => m.change);
  const kinds = [
    /^constant 4096 plus 1$/,
    /^constant 39 with bit \d+ flipped$/,
    /^constant 12 replaced by 0$/,
    /^i64\.gt_u replaced by i64\.ge_u$/,
    /^i64\.and replaced by i64\.or$/,
    /^i64\.store dropped$/,
    /^call of pagetable\.tlbi_ipa dropped$/,
    /^result of pagetable\.pt_read replaced by 0$/,
    /^call of pagetable\.page_zero and call of pagetable\.dsb swapped$/,
    /^if negated$/,
    /^if never$/,
    /^i32\.load 4 bytes further$/,
    /^i32\.load 4 bytes before$/,
  ];
  for (const kind of kinds)
    assert.ok(
      changes.some((change) => kind.test(change)),
      String(kind),
    );
});

test("a sample is drawn by its seed", async () => {
  const { wasm } = await compile("pagetable");
  const ids = (seed: number) => mutants(wasm, { sample: 20, seed }).map((m) => m.id);
  assert.equal(ids(1).length, 20);
  assert.deepEqual(ids(1), ids(1));
  assert.notDeepEqual(ids(1), ids(2));
});

test("a mutant does what its change says", async () => {
  const source = "export function f(a: u32, b: u32): u32 { return a - b; }";
  const { wasm } = await compile("small", source);
  const [mutant] = mutants(wasm);
  assert.equal(mutant?.change, "i32.sub replaced by i32.add");
  const bytes = mutant?.bytes as Uint8Array;
  const f = new WebAssembly.Instance(new WebAssembly.Module(bytes), {}).exports.f as (
    a: number,
    b: number,
  ) => number;
  assert.equal(f(5, 3), 8);
  assert.deepEqual(compareWithEngine(bytes, { calls: 10, seed: 1 }).differences, []);
});

test("only the functions asked for are changed", async () => {
  const { wasm } = await compile("pagetable");
  const list = mutants(wasm, { only: (f) => f.exports.includes("unmap") });
  assert.deepEqual([...new Set(list.map((m) => m.function))], ["pagetable/unmap"]);
});
