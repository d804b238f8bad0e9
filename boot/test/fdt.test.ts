import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { BootError } from "../error.ts";
import {
  type Fdt,
  type FdtNode,
  fdtString,
  findNode,
  formatFdt,
  memoryRegions,
  parseFdt,
  setChosen,
  setMemory,
  withoutRegion,
} from "../fdt.ts";

const name = fc.stringMatching(/^[a-z][a-z0-9,._+-]{0,12}(@[0-9a-f]{1,8})?$/);
const node: fc.Arbitrary<FdtNode> = fc.letrec<{ node: FdtNode }>((tie) => ({
  node: fc.record({
    name,
    properties: fc
      .array(fc.tuple(fc.stringMatching(/^[a-z#][a-z0-9,._+?#-]{0,12}$/), fc.uint8Array({ maxLength: 20 })))
      .map((entries) => new Map(entries)),
    children: fc.oneof({ maxDepth: 3 }, fc.constant<FdtNode[]>([]), fc.array(tie("node"), { maxLength: 3 })),
  }),
})).node;
const tree: fc.Arbitrary<Fdt> = fc.record({
  root: node.map((root) => ({ ...root, name: "" })),
  reservations: fc.array(
    fc.record({
      address: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
      size: fc.bigInt({ min: 1n, max: 2n ** 40n }),
    }),
    { maxLength: 3 },
  ),
  bootCpu: fc.nat(255),
});

/** A machine with memory at 1 GiB. */
function machine(reg = "0000000040000000 0000000080000000"): Fdt {
  const cells = Buffer.from([0, 0, 0, 2]);
  const memory: FdtNode = {
    name: "memory@40000000",
    properties: new Map([
      ["reg", Buffer.from(reg.replaceAll(" ", ""), "hex")],
      ["device_type", fdtString("memory")],
    ]),
    children: [],
  };
  const properties = new Map([
    ["#address-cells", cells],
    ["#size-cells", cells],
  ]);
  return {
    root: { name: "", properties, children: [{ name: "psci", properties: new Map(), children: [] }, memory] },
    reservations: [],
    bootCpu: 0,
  };
}

describe("a device tree", () => {
  it("comes back from its blob as it was", () => {
    fc.assert(
      fc.property(tree, (fdt) => {
        const again = parseFdt(formatFdt(fdt));
        assert.deepEqual(plain(again), plain(fdt));
      }),
    );
  });

  it("is refused or read, never misread without a word, when its blob is damaged", () => {
    const blob = Buffer.from(formatFdt(machine()));
    fc.assert(
      fc.property(fc.nat(blob.length - 1), fc.nat(255), fc.nat(blob.length), (at, value, end) => {
        const damaged = Buffer.from(blob.subarray(0, end));
        if (at < end) damaged[at] = value;
        try {
          parseFdt(damaged, "x");
        } catch (error) {
          assert.ok(error instanceof BootError, `${error instanceof Error ? error.stack : error}`);
        }
      }),
      { numRuns: 2000 },
    );
    assert.throws(() => parseFdt(blob.subarray(0, blob.length - 1), "cut.dtb"), /cut\.dtb is damaged/);
    assert.throws(() => parseFdt(Buffer.from("not a device tree, but longer than a header"), "t"), /magic/);
  });

  it("tells its memory and takes another", () => {
    const fdt = machine();
    assert.deepEqual(memoryRegions(fdt), [{ base: 0x4000_0000n, size: 0x8000_0000n }]);
    const core = { base: 0x4000_0000n, size: 0x100_0000n };
    setMemory(fdt, withoutRegion(memoryRegions(fdt), core));
    const again = parseFdt(formatFdt(fdt));
    assert.deepEqual(memoryRegions(again), [{ base: 0x4100_0000n, size: 0x7f00_0000n }]);
    assert.ok(findNode(again, "/memory@41000000"));
    assert.ok(findNode(again, "/psci"), "other nodes stay");
    assert.equal(again.root.children.length, 2);
  });

  it("is refused when it describes no memory", () => {
    const none = machine();
    none.root.children.pop();
    assert.throws(() => memoryRegions(none), /describes no usable memory.*give one with a \/memory node/);
    assert.throws(() => memoryRegions(machine("0000000040000000 0000000000000000")), /no usable memory/);
    assert.throws(() => memoryRegions(machine("00000000")), /reg of 4 bytes/);
  });

  it("carries the command line and the initrd in /chosen", () => {
    const fdt = machine();
    setChosen(fdt, { bootArguments: "quiet", initrd: { base: 0x4800_0000n, size: 0x1234n } });
    const chosen = findNode(parseFdt(formatFdt(fdt)), "/chosen");
    assert.equal(Buffer.from(chosen?.properties.get("bootargs") ?? []).toString(), "quiet\0");
    assert.equal(
      Buffer.from(chosen?.properties.get("linux,initrd-start") ?? []).toString("hex"),
      "0000000048000000",
    );
    assert.equal(
      Buffer.from(chosen?.properties.get("linux,initrd-end") ?? []).toString("hex"),
      "0000000048001234",
    );
    setChosen(fdt, { bootArguments: "" });
    assert.equal(findNode(fdt, "/chosen")?.properties.has("linux,initrd-start"), false);
  });
});

describe("memory without a region", () => {
  const region = fc.record({
    base: fc.bigInt({ min: 0n, max: 40n }),
    size: fc.bigInt({ min: 1n, max: 40n }),
  });

  it("has exactly the addresses that were outside it", () => {
    fc.assert(
      fc.property(region, region, (memory, hole) => {
        const pieces = withoutRegion([memory], hole);
        const within = (address: bigint, { base, size }: { base: bigint; size: bigint }) =>
          address >= base && address < base + size;
        for (let address = 0n; address < 100n; address++) {
          const expected = within(address, memory) && !within(address, hole);
          assert.equal(
            pieces.some((piece) => within(address, piece)),
            expected,
            `${address}`,
          );
        }
      }),
    );
  });
});

/** A tree as plain values, whatever kind of byte array it holds. */
function plain(fdt: Fdt): unknown {
  const plainNode = ({ name, properties, children }: FdtNode): unknown => ({
    name,
    properties: [...properties].map(([property, value]) => [property, Buffer.from(value).toString("hex")]),
    children: children.map(plainNode),
  });
  return {
    root: plainNode(fdt.root),
    reservations: fdt.reservations.map(({ address, size }) => [address, size]),
    bootCpu: fdt.bootCpu,
  };
}
