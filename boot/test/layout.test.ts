import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  checkMemory,
  coreRegionSize,
  formatSize,
  GiB,
  MiB,
  parseSize,
  planHost,
  ramBase,
} from "../layout.ts";

describe("the layout of memory", () => {
  const sizes = fc.record({
    ram: fc.bigInt({ min: 240n, max: 512n * 1024n }).map((mebibytes) => mebibytes * 2n * MiB),
    image: fc.bigInt({ min: 1n, max: 60n * MiB }),
    textOffset: fc.constantFrom(0n, 0x80000n),
    initrd: fc.bigInt({ min: 0n, max: 120n * MiB }),
  });

  it("keeps everything inside RAM, apart, aligned, and clear of QEMU's own device tree", () => {
    fc.assert(
      fc.property(sizes, (given) => {
        const plan = planHost(given);
        const half = given.ram / 2n;
        const qemuTree = { base: ramBase + (half < 128n * MiB ? half : 128n * MiB), size: 2n * MiB };
        const loaded = [plan.image, ...(plan.initrd ? [plan.initrd] : []), plan.deviceTree];
        for (const region of loaded) {
          assert.ok(region.base >= plan.core.base + plan.core.size, "above the core");
          assert.ok(region.base + region.size <= ramBase + given.ram, "inside RAM");
          assert.ok(!overlap(region, qemuTree), "clear of QEMU's device tree");
        }
        for (const [index, region] of loaded.entries()) {
          for (const other of loaded.slice(index + 1)) assert.ok(!overlap(region, other), "apart");
        }
        assert.equal((plan.image.base - given.textOffset) % (2n * MiB), 0n);
        assert.equal(plan.deviceTree.base % (2n * MiB), 0n);
        assert.equal(plan.image.size, given.image);
        assert.equal(plan.initrd?.size ?? 0n, given.initrd);
      }),
      { numRuns: 1000 },
    );
  });

  it("gives the core 16 MiB at first and 1/128 of RAM when there is more", () => {
    assert.equal(coreRegionSize(1n * GiB), 16n * MiB);
    assert.equal(coreRegionSize(2n * GiB), 16n * MiB);
    assert.equal(coreRegionSize(2n * GiB + 2n * MiB), 18n * MiB);
    assert.equal(coreRegionSize(4n * GiB), 32n * MiB);
    assert.equal(coreRegionSize(1024n * GiB), 8n * GiB);
  });

  it("is refused when RAM is too small, saying how much is needed", () => {
    fc.assert(
      fc.property(sizes, fc.bigInt({ min: 1n, max: 200n }), (given, blocks) => {
        const small = { ...given, ram: blocks * 2n * MiB };
        const message = catchMessage(() => planHost(small));
        if (message === "") return;
        assert.match(message, new RegExp(`^--memory ${formatSize(small.ram)} is too small`));
        const enough = parseSize(/give --memory (\d+[MG])/.exec(message)?.[1] ?? "");
        assert.ok(enough > small.ram);
        assert.equal(
          catchMessage(() => planHost({ ...small, ram: enough })),
          "",
          "what it asks for is enough",
        );
      }),
      { numRuns: 1000 },
    );
  });

  it("is refused without the core too", () => {
    const given = { image: 36n * MiB, initrd: 90n * MiB };
    assert.throws(() => checkMemory({ ...given, ram: 128n * MiB }), /--memory 128M is too small.*320M/);
    assert.doesNotThrow(() => checkMemory({ ...given, ram: 320n * MiB }));
  });
});

describe("a size", () => {
  it("is read as QEMU reads it", () => {
    assert.equal(parseSize("1024"), GiB);
    assert.equal(parseSize("512M"), 512n * MiB);
    assert.equal(parseSize("4g"), 4n * GiB);
    assert.equal(parseSize("2GiB"), 2n * GiB);
    assert.equal(parseSize("1T"), 1024n * GiB);
  });

  it("is refused when it is none, or not whole blocks", () => {
    for (const text of ["", "0", "-1G", "1.5G", "lots", "3M", "1K", "4 G"]) {
      assert.throws(() => parseSize(text), /is not a size/, text);
    }
  });

  it("is written so that it reads back", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: 2n ** 20n }), (blocks) => {
        assert.equal(parseSize(formatSize(blocks * 2n * MiB)), blocks * 2n * MiB);
      }),
    );
  });
});

function overlap(one: { base: bigint; size: bigint }, other: { base: bigint; size: bigint }): boolean {
  return one.base < other.base + other.size && other.base < one.base + one.size;
}

function catchMessage(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
  return "";
}
