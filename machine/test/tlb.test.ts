/** The TLBs: worst hardware that the Arm manual allows, so that a missing invalidation always shows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeRegime, type Regime, type Step } from "../stage2.ts";
import { type Operation, Tlbs } from "../tlb.ts";

const ROOT = 0x10_0000;
const TABLE2 = 0x20_0000;
const TABLE3 = 0x30_0000;
const LEAF = 0x7ff;
const IPA = 0x1000;
const SLOT = TABLE3 + 8;

/** Tables that map IPA to 0x8000_0000 for VMID 5, and two CPUs that have run under them. */
function machine() {
  const words = new Map<number, number>([
    [ROOT, TABLE2 | 3],
    [TABLE2, TABLE3 | 3],
    [SLOT, 0x8000_0000 + LEAF],
  ]);
  const read = (address: number): Step => ({ address, low: words.get(address) ?? 0, high: 0 });
  const tlbs = new Tlbs(2, read);
  const regime = decodeRegime(BigInt(ROOT) | (5n << 48n), 25n | (1n << 6n) | (5n << 16n)) as Regime;
  for (const [address, low] of words) tlbs.store(0, address, { address, low: 0, high: 0 }, low, 0);
  tlbs.dsb(0, "inner", true);
  for (const cpu of [0, 1]) tlbs.run(cpu, regime);
  const store = (address: number, low: number, cpu = 0) => {
    tlbs.store(cpu, address, read(address), low, 0);
    words.set(address, low);
  };
  const output = (cpu: number, virtual?: string) => {
    const found = tlbs.translate(cpu, regime, IPA, virtual);
    return "leaf" in found ? found.leaf.output : found.fault.type;
  };
  /** TLBI by CPU 0 and the DSB that waits for it. */
  const invalidate = (operation: Operation, vmid = 5) => {
    tlbs.issue(0, operation, vmid, IPA);
    tlbs.dsb(0, "inner", true);
  };
  return { tlbs, regime, store, output, invalidate };
}

const FIRST = 0x8000_0000;

test("a translation is a walk, and then what was walked", () => {
  const { output, tlbs } = machine();
  assert.equal(output(0), FIRST);
  const kinds = tlbs.cachedBy(0).map(({ kind }) => kind);
  assert.deepEqual(kinds.sort(), ["leaf", "table", "table"]);
  assert.equal(tlbs.cachedBy(1).length, 0);
});

test("every CPU that ran under the VMID may have cached a mapping just before it goes", () => {
  const { store, output, tlbs } = machine();
  store(SLOT, 0);
  tlbs.dsb(0, "inner", true);
  assert.equal(output(0), FIRST);
  assert.equal(output(1), FIRST);
  assert.ok(tlbs.findStale());
  assert.ok(tlbs.findReaching(FIRST, (vmid) => vmid === 5));
  assert.equal(
    tlbs.findReaching(FIRST, (vmid) => vmid === 0),
    undefined,
  );
});

test("the sequence store, DSB, TLBI by address, DSB, TLBI of stage 1, DSB leaves nothing behind on any CPU", () => {
  const { store, output, tlbs, invalidate } = machine();
  for (const cpu of [0, 1]) output(cpu, "user 0x7");
  store(SLOT, 0);
  tlbs.dsb(0, "inner", false);
  invalidate("ipas2e1is");
  invalidate("vmalle1is");
  assert.equal(tlbs.findStale(), undefined);
  assert.equal(output(0, "user 0x7"), "translation");
  assert.equal(output(1, "user 0x7"), "translation");
});

test("without the DSB after the store, walkers may still see the old entry", () => {
  const { store, tlbs, output } = machine();
  store(SLOT, 0);
  tlbs.issue(0, "ipas2e1is", 5, IPA);
  tlbs.dsb(0, "inner", true);
  assert.ok(tlbs.findStale());
  assert.equal(output(1), FIRST);
});

test("an invalidation does nothing before the DSB that waits for it", () => {
  const { store, tlbs } = machine();
  store(SLOT, 0);
  tlbs.dsb(0, "inner", false);
  tlbs.issue(0, "vmalls12e1is", 5);
  assert.ok(tlbs.findStale());
  assert.deepEqual(tlbs.incomplete(0), ["vmalls12e1is"]);
  tlbs.dsb(0, "inner", false);
  assert.ok(tlbs.findStale(), "a DSB of stores alone waits for none");
  tlbs.dsb(0, "inner", true);
  assert.equal(tlbs.findStale(), undefined);
  assert.deepEqual(tlbs.incomplete(0), []);
});

for (const [operation, leavesBehind] of [
  ["vmalls12e1is", []],
  ["alle1is", []],
  ["ipas2e1is", ["combined"]],
  ["vmalle1is", ["leaf", "combined"]],
] as const) {
  test(`${operation} reaches ${leavesBehind.length === 0 ? "everything" : `all but ${leavesBehind}`} of a mapping that went`, () => {
    const { store, output, tlbs, invalidate } = machine();
    output(1, "kernel 0x9");
    store(SLOT, 0);
    tlbs.dsb(0, "inner", false);
    invalidate(operation);
    const left = new Set(
      tlbs
        .cachedBy(1)
        .filter(({ leaf }) => leaf)
        .map(({ kind }) => kind),
    );
    for (const kind of leavesBehind) assert.ok(left.has(kind), `${kind} entries are gone`);
    if (leavesBehind.length === 0) assert.equal(tlbs.findStale(), undefined);
  });
}

test("vmalle1 acts on its own CPU alone", () => {
  const { output, tlbs } = machine();
  for (const cpu of [0, 1]) output(cpu, "kernel 0x9");
  tlbs.issue(0, "vmalle1", 5);
  tlbs.dsb(0, "local", true);
  const combined = (cpu: number) => tlbs.cachedBy(cpu).filter(({ kind }) => kind === "combined").length;
  assert.deepEqual([combined(0), combined(1)], [0, 1]);
});

test("an invalidation under another VMID reaches nothing", () => {
  const { store, tlbs, invalidate } = machine();
  store(SLOT, 0);
  tlbs.dsb(0, "inner", false);
  invalidate("vmalls12e1is", 6);
  assert.ok(tlbs.findStale());
});

test("a table that is unlinked may be walked until it is invalidated", () => {
  const { store, output, tlbs, invalidate } = machine();
  output(1);
  store(TABLE2, 0);
  tlbs.dsb(0, "inner", true);
  assert.ok(tlbs.findThrough(TABLE3));
  assert.equal(output(1), FIRST);
  invalidate("vmalls12e1is");
  assert.equal(tlbs.findThrough(TABLE3), undefined);
  assert.equal(output(1), "translation");
});

test("an entry that goes by itself is walked anew", () => {
  const { output, tlbs } = machine();
  output(0);
  tlbs.evict(0, () => true);
  assert.equal(tlbs.cachedBy(0).length, 0);
  assert.equal(output(0), FIRST);
});
