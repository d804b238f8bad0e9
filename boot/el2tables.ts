import type { Region } from "./fdt.ts";

/**
 * The core's own translation at EL2: made here, once, as part of its image, and never changed after. Nothing at EL2
 * writes these tables (they lie outside the memory that the core's primitives may write), so that the mapping of the
 * core is write-once by construction.
 *
 * 48 bits of virtual address, 4 KiB granule, levels 0 to 3 (Arm ARM D8.3). RAM is mapped to itself, readable and
 * writable, not executable; the core's image with the rights of each part; stacks with a page without access below
 * each. The owner table has a second mapping at an address of its own, which the native part knows as a constant.
 */

/** A part of the virtual address space. */
export interface Mapping {
  readonly virtual: bigint;
  readonly physical: bigint;
  readonly size: bigint;
  readonly rights: "code" | "constants" | "data" | "none";
}

/** Where the owner table is mapped: OWNER_TABLE of kcore/native/primitives.h. */
export const ownerTableAddress = 0x4000_0000_0000n;

const pageSize = 4096n;
const valid = 1n;
const table = 2n;
/** Normal write-back memory (MAIR_EL2 attribute 1), inner shareable, accessed. */
const normal = (1n << 2n) | (3n << 8n) | (1n << 10n);
const readOnly = 1n << 7n;
const executeNever = 1n << 54n;
const rightsBits = {
  code: readOnly,
  constants: readOnly | executeNever,
  data: executeNever,
} as const;

/**
 * Tables for the given mappings; later ones overrule earlier ones.
 * @param base physical address where the tables will lie, page-aligned
 * @param pages how many table pages there is room for
 * @returns the tables' bytes, the root first
 * @throws Error when they need more pages, or a mapping is not page-aligned
 */
export function makeEl2Tables(base: bigint, pages: number, mappings: readonly Mapping[]): Uint8Array {
  const words = new BigUint64Array(pages * 512);
  let used = 1;
  const allocate = (): bigint => {
    if (used === pages) throw new Error(`the EL2 tables need more than ${pages} pages`);
    return base + BigInt(used++) * pageSize;
  };
  const slotOf = (tableAddress: bigint, index: bigint): number => Number((tableAddress - base) / 8n + index);

  /** The table below `slot` of `level`, made or split from a block as needed. */
  const descend = (slot: number, level: number): bigint => {
    const entry = words[slot] as bigint;
    if ((entry & (valid | table)) === (valid | table)) return entry & 0xffff_ffff_f000n;
    const child = allocate();
    if ((entry & valid) !== 0n) {
      const size = spanOf(level + 1);
      const form = level + 1 === 3 ? table : 0n;
      for (let i = 0n; i < 512n; i++) words[slotOf(child, i)] = (entry + i * size) | form;
    }
    words[slot] = child | table | valid;
    return child;
  };

  for (const { virtual, physical, size, rights } of mappings) {
    if ((virtual | physical | size) % pageSize !== 0n)
      throw new Error(`mapping at 0x${virtual.toString(16)} is not page-aligned`);
    let at = 0n;
    while (at < size) {
      let level = 0;
      let slot = slotOf(base, indexOf(virtual + at, 0));
      while (level === 0 || !isLeafAt(level, virtual + at, physical + at, size - at)) {
        const child = descend(slot, level);
        level++;
        slot = slotOf(child, indexOf(virtual + at, level));
      }
      const form = level === 3 ? table | valid : valid;
      words[slot] = rights === "none" ? 0n : (physical + at) | normal | rightsBits[rights] | form;
      at += spanOf(level);
    }
  }
  return new Uint8Array(words.buffer);
}

/** Bytes that one entry of `level` translates. */
function spanOf(level: number): bigint {
  return 1n << BigInt(39 - 9 * level);
}

function indexOf(virtual: bigint, level: number): bigint {
  return (virtual / spanOf(level)) % 512n;
}

function isLeafAt(level: number, virtual: bigint, physical: bigint, left: bigint): boolean {
  const span = spanOf(level);
  return level === 3 || (virtual % span === 0n && physical % span === 0n && left >= span);
}

/** The mappings of the core. `symbols` are those of its image. */
export function coreMappings(
  ram: Region,
  ownerTable: Region,
  symbols: (name: string) => bigint,
  cpus: number,
): Mapping[] {
  const same = (base: bigint, end: bigint, rights: Mapping["rights"]): Mapping => ({
    virtual: base,
    physical: base,
    size: end - base,
    rights,
  });
  const stackSize = 4n * pageSize;
  const guards = Array.from({ length: cpus }, (_, cpu) => {
    const guard = symbols("stacks") + BigInt(cpu) * stackSize;
    return same(guard, guard + pageSize, "none");
  });
  return [
    same(ram.base, ram.base + ram.size, "data"),
    same(symbols("_head"), symbols("text_end"), "code"),
    same(symbols("text_end"), symbols("rodata_end"), "constants"),
    same(symbols("el2_tables"), symbols("stacks"), "constants"),
    ...guards,
    { virtual: ownerTableAddress, physical: ownerTable.base, size: ownerTable.size, rights: "data" },
  ];
}
