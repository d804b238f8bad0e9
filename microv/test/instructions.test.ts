import assert from "node:assert/strict";
import { test } from "node:test";
import { OperatorCodeNames } from "wasmparser";
import { compareWithEngine } from "../concrete.ts";
import { ROWS, type Row } from "../instructions.ts";

test("the table agrees with wasmparser on every opcode", () => {
  for (const row of ROWS) assert.equal((OperatorCodeNames as string[])[row.code], row.name);
});

const TYPES: Record<string, number> = { i: 0x7f, I: 0x7e };
const types = (text: string) => [text.length, ...[...text].map((letter) => TYPES[letter] as number)];
const section = (id: number, bytes: readonly number[]) => [id, bytes.length, ...bytes];

/** A module whose function `f` performs one instruction on its parameters, with a page of memory that holds 0, 1, 2 … at first. */
function moduleFor(row: Row): Uint8Array {
  const opcode = row.code > 0xff ? [row.code >> 8, row.code & 0xff] : [row.code];
  const immediates = {
    memory: [Math.log2(row.bytes || 1), 8],
    zero: [0],
    zeros: [0, 0],
    i32: [0xd5, 0x7e],
    i64: [0xd5, 0x7e],
  };
  const immediate = row.immediate in immediates ? immediates[row.immediate as keyof typeof immediates] : [];
  const gets = [...row.operands].flatMap((_, i) => [0x20, i]);
  const body = [0, ...gets, ...opcode, ...immediate, 0x0b];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, ...types(row.operands), ...types(row.results)]),
    ...section(3, [1, 0]),
    ...section(5, [1, 1, 1, 1]),
    ...section(7, [2, 1, 0x66, 0, 0, 3, 0x6d, 0x65, 0x6d, 2, 0]),
    ...section(10, [1, body.length, ...body]),
    ...section(11, [1, 0, 0x41, 0, 0x0b, 100, ...Array.from({ length: 100 }, (_, i) => (i * 37) & 0xff)]),
  ]);
}

test("every instruction computes, loads and stores what it does in the engine", () => {
  const rows = ROWS.filter((row) => !`${row.operands}${row.results}`.includes("*"));
  assert.ok(rows.length > 90, `${rows.length} rows`);
  for (const row of rows) {
    const touchesMemory = row.bytes > 0 || /fill|copy/.test(row.name);
    /** Addresses and lengths near the data, mostly; wild ones otherwise. */
    const near = (random: () => bigint) =>
      random() % 8n === 0n
        ? [...row.operands].map(random)
        : [...row.operands].map((_, i) => (i === 0 || row.bytes === 0 ? random() % 90n : random()));
    const result = compareWithEngine(moduleFor(row), {
      calls: 60,
      seed: row.code,
      arguments: (_, random) => (touchesMemory ? near(random) : undefined),
    });
    assert.deepEqual(result.differences, [], row.name);
    assert.ok(result.traps + result.refused < 60, row.name);
  }
});
