/** Caches: what accesses of different attributes see of the same page, and what maintenance changes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Caches } from "../caches.ts";
import { PAGE_SIZE, PhysicalMemory } from "../physical.ts";

const BASE = 0x4000_0000;

function fresh(): Caches {
  return new Caches(new PhysicalMemory(BASE, 4));
}

test("memory starts as zeroes and ends where it says", () => {
  const { memory } = fresh();
  assert.equal(memory.end, BASE + 4 * PAGE_SIZE);
  assert.equal(memory.has(BASE - 1), false);
  assert.equal(memory.has(memory.end), false);
  assert.equal(memory.touched(BASE), undefined);
  assert.throws(() => memory.pageAt(memory.end), RangeError);
  assert.throws(() => new PhysicalMemory(BASE + 1, 1), RangeError);
});

test("a cacheable write is invisible behind the caches until it is cleaned", () => {
  const caches = fresh();
  caches.write(BASE + 8, 8, 7n);
  assert.equal(caches.read(BASE + 8, 8), 7n);
  assert.equal(caches.read(BASE + 8, 8, false), 0n);
  assert.equal(caches.isClean(BASE), false);
  caches.clean(BASE);
  assert.equal(caches.read(BASE + 8, 8, false), 7n);
  assert.equal(caches.isClean(BASE), true);
});

test("a non-cacheable write is invisible where the caches hold the page", () => {
  const caches = fresh();
  caches.allocate(BASE);
  caches.write(BASE, 8, 7n, false);
  assert.equal(caches.read(BASE, 8), 0n);
  assert.equal(caches.read(BASE, 8, false), 7n);
  assert.equal(caches.isClean(BASE), false, "a stale clean line hides what memory holds");
  caches.evict(BASE);
  assert.equal(caches.read(BASE, 8), 7n);
});

test("a dirty line that is evicted overwrites what went behind it", () => {
  const caches = fresh();
  caches.write(BASE, 8, 1n);
  caches.write(BASE, 8, 2n, false);
  caches.evict(BASE);
  assert.equal(caches.read(BASE, 8, false), 1n);
});

test("zeroing a page zeroes the caches alone", () => {
  const caches = fresh();
  caches.write(BASE, 8, 1n, false);
  caches.zero(BASE);
  assert.equal(caches.read(BASE, 8), 0n);
  assert.equal(caches.isZero(BASE), false);
  caches.clean(BASE);
  assert.equal(caches.isZero(BASE), true);
});

test("accesses of every size, at any alignment, across pages, are little endian", () => {
  for (const cacheable of [true, false]) {
    for (const size of [1, 2, 4, 8]) {
      for (const at of [0, 1, 5, PAGE_SIZE - 3, PAGE_SIZE - 1]) {
        const caches = fresh();
        const value = 0x8877_6655_4433_2211n & ((1n << BigInt(8 * size)) - 1n);
        caches.write(BASE + at, size, value, cacheable);
        assert.equal(caches.read(BASE + at, size, cacheable), value, `${size} bytes at ${at}`);
        assert.equal(caches.read(BASE + at, 1, cacheable), 0x11n);
      }
    }
  }
});
