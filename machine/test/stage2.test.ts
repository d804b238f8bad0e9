/** Translation as hardware does it: the walk, descriptors and memory types of the Arm manual. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeLeaf,
  decodeRegime,
  faultStatus,
  memoryType,
  type Regime,
  type Step,
  walk,
} from "../stage2.ts";

const TABLE = 3n;
const PAGE = 3n | (0xfn << 2n) | (3n << 6n) | (1n << 10n);
const BLOCK = PAGE & ~2n;

/** Memory that holds descriptors at addresses. */
function memory(descriptors: readonly (readonly [number, bigint])[]): (address: number) => Step {
  const words = new Map(descriptors);
  return (address) => {
    const value = words.get(address) ?? 0n;
    return { address, low: Number(value & 0xffff_ffffn), high: Number(value >> 32n) };
  };
}

function regime(bits: number, sl0: number, vttbr = 0x10_0000n, ps = 5n): Regime {
  const found = decodeRegime(vttbr, BigInt(64 - bits) | (BigInt(sl0) << 6n) | (ps << 16n));
  assert.ok(found);
  return found;
}

test("VTCR_EL2 and VTTBR_EL2 say where a walk starts", () => {
  assert.deepEqual(regime(40, 1, 0x7000_0010_2000n | (9n << 48n)), {
    ...{ vmid: 9, root: 0x7000_0010_2000, inputBits: 40, startLevel: 1, rootTables: 2, outputBits: 48 },
  });
  assert.equal(regime(39, 1).rootTables, 1);
  assert.equal(regime(48, 2).startLevel, 0);
  assert.equal(regime(32, 1, 0n, 2n).outputBits, 40);
});

test("concatenated roots are aligned to their size: hardware ignores the bits below", () => {
  assert.equal(regime(40, 1, 0x10_1000n).root, 0x10_0000);
});

test("registers that make no translation are no regime", () => {
  const vtcr = (bits: bigint, sl0: bigint, granule = 0n) => (64n - bits) | (sl0 << 6n) | (granule << 14n);
  assert.equal(decodeRegime(0n, vtcr(40n, 3n)), undefined);
  assert.equal(decodeRegime(0n, vtcr(40n, 1n, 1n)), undefined);
  assert.equal(decodeRegime(0n, vtcr(49n, 2n)), undefined);
  assert.equal(decodeRegime(0n, vtcr(44n, 1n)), undefined);
  assert.equal(decodeRegime(0n, vtcr(30n, 1n)), undefined);
});

test("a walk goes through tables to a page, and names each step", () => {
  const read = memory([
    [0x10_0008, 0x20_0000n | TABLE],
    [0x20_0010, 0x30_0000n | TABLE],
    [0x30_0018, 0x8000_3000n | PAGE],
  ]);
  const ipa = 2 ** 30 + 2 * 2 ** 21 + 3 * 4096 + 5;
  const found = walk(regime(39, 1), ipa, read);
  assert.ok("leaf" in found);
  assert.deepEqual(
    found.steps.map(({ address }) => address),
    [0x10_0008, 0x20_0010, 0x30_0018],
  );
  const { base, size, output, readable, writable, executable } = found.leaf;
  assert.deepEqual([base, size, output], [ipa - 5, 4096, 0x8000_3000]);
  assert.deepEqual([readable, writable, executable], [true, true, true]);
});

test("a block ends a walk at levels 1 and 2", () => {
  const read = memory([
    [0x10_0000, 0x20_0000n | TABLE],
    [0x20_0000, 0x8020_0000n | BLOCK],
    [0x10_0008, 0x4000_0000n | BLOCK],
  ]);
  const two = walk(regime(39, 1), 0x1234, read);
  assert.ok("leaf" in two && two.leaf.size === 2 ** 21 && two.leaf.output === 0x8020_0000);
  const one = walk(regime(39, 1), 2 ** 30 + 77, read);
  assert.ok("leaf" in one && one.leaf.size === 2 ** 30);
});

test("the second of two concatenated roots answers for the upper half", () => {
  const read = memory([[0x10_1000, 0x4000_0000n | BLOCK]]);
  assert.ok("leaf" in walk(regime(40, 1), 2 ** 39, read));
  assert.ok("fault" in walk(regime(40, 1), 0, read));
});

test("faults say their type and level", () => {
  const read = memory([
    [0x10_0000, 0x20_0000n | TABLE],
    [0x20_0000, 0x30_0000n | TABLE],
    [0x20_0008, 0x8020_0000n | (BLOCK & ~(1n << 10n))],
    [0x30_0000, 0x8000_0000n | (PAGE & ~2n)],
    [0x30_0008, (1n << 44n) | PAGE],
    [0x10_0008, (1n << 44n) | TABLE],
  ]);
  const at = (ipa: number, ps = 5n) => {
    const found = walk(regime(39, 1, 0x10_0000n, ps), ipa, read);
    return "fault" in found ? `${found.fault.type} ${found.fault.level} ${faultStatus(found.fault)}` : "leaf";
  };
  assert.equal(at(2 ** 31), "translation 1 5");
  assert.equal(at(2 ** 22), "translation 2 6");
  assert.equal(at(0x2000), "translation 3 7");
  assert.equal(at(0), "translation 3 7", "a block descriptor at level 3 is reserved");
  assert.equal(at(2 ** 21), "access flag 2 10");
  assert.equal(at(0x1000), "leaf");
  assert.equal(at(0x1000, 2n), "address size 3 3");
  assert.equal(at(2 ** 30, 2n), "address size 1 1");
  assert.equal(at(2 ** 39), "translation 0 4");
});

test("a descriptor's permissions are those of the manual", () => {
  const leaf = (s2ap: number, xn: number) => decodeLeaf(0x403 | (s2ap << 6), xn << 21, 3, 0);
  assert.deepEqual(
    [0, 1, 2, 3].map((s2ap) => [leaf(s2ap, 0).readable, leaf(s2ap, 0).writable]),
    [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ],
  );
  assert.deepEqual(
    [0, 1, 2, 3].map((xn) => leaf(3, xn).executable),
    [true, false, false, true],
  );
});

test("memory types with and without HCR_EL2.FWB", () => {
  const types = (forced: boolean) => Array.from({ length: 16 }, (_, n) => memoryType(n, forced));
  const device = Array(4).fill("device");
  assert.deepEqual(types(false).slice(0, 8), [
    ...device,
    "reserved",
    "normal non-cacheable",
    "normal",
    "normal",
  ]);
  assert.equal(memoryType(15, false), "normal");
  assert.deepEqual(types(true).slice(0, 8), [
    ...device,
    "reserved",
    "normal non-cacheable",
    "normal",
    "normal",
  ]);
  assert.deepEqual(types(true).slice(8), Array(8).fill("reserved"));
});
