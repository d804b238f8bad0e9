import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BinaryReader, OperatorCodeNames } from "wasmparser";
import { DecodeError, decode, functionNamed, type Instruction, type Module } from "../module.ts";
import { checkShape } from "../shape.ts";
import { SourceMap } from "../sourcemap.ts";
import { compile } from "./wasm.ts";

const CODE_OPERATOR = 30;

/** Opcode names and offsets of all function bodies in order, from our tree (with `else` and `end` left out) ... */
function ours(module: Module): string[] {
  const list: string[] = [];
  const visit = (body: readonly Instruction[]): void => {
    for (const i of body) {
      list.push(`${i.op} @${i.offset}`);
      visit(i.body);
      if (i.orElse) visit(i.orElse);
    }
  };
  for (const f of module.functions) visit(f.body);
  return list;
}

/** ... and from wasmparser. */
function theirs(bytes: Uint8Array): string[] {
  const reader = new BinaryReader();
  reader.setData(bytes.slice().buffer as ArrayBuffer, 0, bytes.length);
  const list: string[] = [];
  let at = 0;
  while (true) {
    const before = reader.position;
    if (!reader.read()) break;
    at = before;
    if ((reader.state as number) !== CODE_OPERATOR) continue;
    const code = (reader.result as { code: number }).code;
    const name = (OperatorCodeNames as string[])[code] as string;
    if (name !== "end" && name !== "else") list.push(`${name} @${at}`);
  }
  return list;
}

for (const name of ["pagetable", "arithmetic"]) {
  test(`${name}: every instruction and offset agrees with wasmparser`, async () => {
    const { wasm } = await compile(name);
    const actual = ours(decode(wasm));
    assert.ok(actual.length > 150);
    assert.deepEqual(actual, theirs(wasm));
  });
}

test("functions are found by export, by last part of the path and by import name", async () => {
  const module = decode((await compile("pagetable")).wasm);
  assert.deepEqual(functionNamed(module, "map").params, [64, 64, 64, 64]);
  assert.equal(functionNamed(module, "entryAddress").name, "pagetable/entryAddress");
  assert.equal(functionNamed(module, "pagetable.pt_read").imported?.field, "pt_read");
  assert.throws(() => functionNamed(module, "nap"), /no function is called nap; there are .*pagetable\/map/);
});

test("a byte leads to its line", async () => {
  const { wasm, map } = await compile("pagetable");
  const module = decode(wasm);
  const source = new SourceMap(map);
  const calls = functionNamed(module, "unmap").body.filter((i) => i.op === "call");
  assert.match(source.describe((calls[0] as Instruction).offset), /^pagetable\.ts:\d+$/);
  assert.equal(source.at(0), undefined);
  assert.throws(() => new SourceMap('{"version":2}'), /not version 3/);
});

test("data segments, globals and memory limits are read", async () => {
  const { wasm } = await compile(
    "data",
    `const t = memory.data<u32>([1, 2, 0x01020304]); export const seven: i32 = 7; export function f(): u32 { return load<u32>(t, 8); }`,
  );
  const module = decode(wasm);
  assert.deepEqual([...(module.data[0]?.bytes ?? [])], [1, 0, 0, 0, 2, 0, 0, 0, 4, 3, 2, 1]);
  assert.deepEqual(module.globals[0], { width: 32, mutable: false, value: 7n });
  assert.deepEqual(module.memory, { min: 2, max: 2, shared: false });
});

test("an unsupported instruction is named with its offset", async () => {
  const { wasm } = await compile("float", "export function f(x: f64): f64 { return x + 1; }");
  assert.throws(() => decode(wasm), /unsupported type f64 at byte \d+/);
  const grow = await compile("grow", "export function f(): i32 { return memory.grow(1); }");
  assert.throws(() => decode(grow.wasm), /unsupported instruction memory\.grow \(0x40\) at byte \d+/);
  const set = await compile("set", "let x: i32 = 0; export function f(): i32 { return ++x; }");
  assert.throws(() => decode(set.wasm), /unsupported instruction global\.set \(0x24\) at byte \d+/);
});

test("no bytes make the decoder fail in any other way, or hang", async () => {
  const { wasm } = await compile("pagetable");
  const edits = fc.array(fc.tuple(fc.nat(wasm.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(edits, (list) => {
      const bytes = wasm.slice();
      for (const [at, value] of list) bytes[at] = value;
      try {
        decode(bytes);
      } catch (error) {
        assert.ok(error instanceof DecodeError, String(error));
      }
    }),
    { numRuns: 500 },
  );
  assert.throws(() => decode(new Uint8Array([0, 97, 115, 109])), /not a valid WebAssembly module/);
});

test("the shape of a core is checked", async () => {
  const module = decode((await compile("pagetable")).wasm);
  const imports = ["pt_read", "pt_write", "page_zero", "dsb", "tlbi_ipa", "lock", "unlock"].map(
    (n) => `pagetable.${n}`,
  );
  assert.deepEqual(checkShape(module, { imports }), []);
  assert.deepEqual(checkShape(module, { imports: imports.slice(1) }), [
    "import pagetable.pt_read is not in the list",
  ]);
  assert.deepEqual(checkShape(module, { imports: [...imports, "env.abort"] }), [
    "import env.abort is missing",
  ]);
  assert.match(
    checkShape(module, { imports, opcodes: ["nop"] })[0] ?? "",
    /entryAddress uses local.get at byte \d+/,
  );
  const recursive = decode(
    (await compile("r", "export function f(n: i32): i32 { return n ? f(n - 1) * n : 1; }")).wasm,
  );
  assert.deepEqual(checkShape(recursive, { imports: [] }), ["recursion: r/f calls r/f"]);
  const growing = {
    ...module,
    memory: { min: 1, max: undefined, shared: false },
    hasStart: true,
    tables: 1,
    elements: 2,
  };
  assert.equal(checkShape(growing, { imports }).length, 4);
});
