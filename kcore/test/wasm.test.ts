/** The module that ships is made of what the design allows, and nothing else passes for one. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { checkWasm, machineImports } from "../build/check.ts";
import { buildWasm, kcoreFolder } from "../build/wasm.ts";

/** What this test needs of npm wabt. */
interface Wabt {
  readWasm(bytes: Uint8Array, options: object): { toText(options: object): string; destroy(): void };
  parseWat(
    name: string,
    text: string,
    features: object,
  ): { toBinary(options: object): { buffer: Uint8Array } };
}

const cache = process.env.COREVISOR_CACHE ?? join(dirname(kcoreFolder), ".cache");
const core = await buildWasm(cache);
const { declared, used } = machineImports();
const features = { threads: true };
let wabt: Wabt;
let text: string;

before(async () => {
  wabt = await createRequire(import.meta.url)("wabt")();
  text = wabt.readWasm(core.bytes, { readDebugNames: false, ...features }).toText({ foldExprs: false });
});

test("the core is made of what a core may be made of", () => {
  assert.deepEqual(checkWasm(core.bytes, used), []);
});

test("every primitive that machine.ts declares is used, and nothing else is", () => {
  assert.deepEqual([...declared].sort(), [...used].sort());
});

test("the core exports its transitions, its memory and the names of its areas", () => {
  const exports = WebAssembly.Module.exports(new WebAssembly.Module(core.bytes));
  const of = (kind: string) => exports.filter((one) => one.kind === kind).map(({ name }) => name);
  assert.deepEqual(of("function").sort(), ["boot", "core_trap", "cpu_on", "guest_trap", "host_trap"]);
  assert.deepEqual(of("memory"), ["memory"]);
  assert.equal(of("global").length + 6, exports.length);
});

test("the same sources give the same bytes", async () => {
  assert.equal((await buildWasm(cache)).sha256, core.sha256);
});

/** The core with its text changed, which must still be a valid module. */
function doctored(change: (text: string) => string): string[] {
  const changed = change(text);
  assert.notEqual(changed, text, "nothing was changed");
  const { buffer } = wabt.parseWat("core.wat", changed, features).toBinary({});
  assert.ok(WebAssembly.validate(new Uint8Array(buffer)), "the doctored module is no module");
  return checkWasm(buffer, used);
}

/** Adds a field behind the last one. */
const add = (field: string) => (old: string) => old.replace(/\)\s*$/, `\n${field})`);
/** Adds a function of these instructions. */
const insert = (code: string) => add(`(func ${code})`);

const cases: readonly (readonly [what: string, change: (text: string) => string, complaint: RegExp])[] = [
  [
    "imports something else",
    (old) => old.replace(/\(import "machine" "isb"/, '(import "machine" "isb2"'),
    /imports machine\.isb2/,
  ],
  [
    "imports from elsewhere",
    (old) => old.replace(/\(import "machine" "isb"/, '(import "env" "isb"'),
    /imports env\.isb/,
  ],
  [
    "imports a memory",
    (old) =>
      old
        .replace(/\(memory \(;0;\) 8 8\)/, "")
        .replace(/\(import /, '(import "machine" "memory" (memory 8 8))\n(import '),
    /which is no function/,
  ],
  ["has a start function", add("(func $begin) (start $begin)"), /a start function/],
  ["has a table", add("(table 1 funcref)"), /a table/],
  ["has a table with elements", add("(table 1 funcref) (elem (i32.const 0) func 400)"), /table elements/],
  ["has initial data", add('(data (i32.const 16384) "\\01")'), /initial data/],
  ["has a global that changes", add("(global (mut i32) (i32.const 0))"), /a global that changes/],
  ["has a global of floating point", add("(global f64 (f64.const 1))"), /no integer constant/],
  [
    "has a memory that may grow",
    (old) => old.replace(/\(memory \(;0;\) 8 8\)/, "(memory (;0;) 8 9)"),
    /its memory/,
  ],
  [
    "has a memory without bound",
    (old) => old.replace(/\(memory \(;0;\) 8 8\)/, "(memory (;0;) 8)"),
    /its memory/,
  ],
  ["grows its memory", insert("i32.const 0 memory.grow drop"), /instruction 0x40/],
  ["asks for the size of its memory", insert("memory.size drop"), /instruction 0x3f/],
  ["copies memory", insert("i32.const 0 i32.const 0 i32.const 0 memory.copy"), /instruction 0xfc0a/],
  ["fills memory", insert("i32.const 0 i32.const 0 i32.const 0 memory.fill"), /instruction 0xfc0b/],
  ["computes with floating point", insert("f64.const 1 drop"), /instruction 0x44/],
  ["converts to floating point", insert("i32.const 1 f32.convert_i32_u drop"), /instruction 0xb3/],
  ["loads floating point", insert("i32.const 0 f32.load drop"), /instruction 0x2a/],
  ["has a local of floating point", add("(func (local f32))"), /local that is no integer/],
  [
    "calls indirectly",
    add("(table 1 funcref) (type $none (func)) (func i32.const 0 call_indirect (type $none))"),
    /instruction 0x11/,
  ],
  [
    "waits for memory",
    insert("i32.const 0 i32.const 0 i64.const 0 memory.atomic.wait32 drop"),
    /instruction 0xfe01/,
  ],
  ["exchanges atomically", insert("i32.const 0 i32.const 0 i32.atomic.rmw.xchg drop"), /instruction 0xfe41/],
  ["calls itself", add("(func $again call $again)"), /lead back to themselves/],
  [
    "calls itself by another function",
    add("(func $ping call $pong) (func $pong call $ping)"),
    /lead back to themselves/,
  ],
];

for (const [what, change, complaint] of cases) {
  test(`a module that ${what} is no core`, () => {
    const complaints = doctored(change);
    assert.ok(
      complaints.some((one) => complaint.test(one)),
      `the complaints are ${JSON.stringify(complaints)}`,
    );
  });
}

test("a module that leaves out a primitive, or has one that the sources do not use, is no core", () => {
  assert.deepEqual(checkWasm(core.bytes, new Set([...used, "more"])), ["it does not import machine.more"]);
  const fewer = new Set(used);
  fewer.delete("isb");
  assert.deepEqual(checkWasm(core.bytes, fewer), ["it imports machine.isb"]);
});
