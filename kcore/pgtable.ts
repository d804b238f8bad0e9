/**
 * Stage 2 translation tables: 4 KiB granule, levels 0 to 3, concatenated roots (Arm ARM D8.3).
 *
 * A root translates input addresses of 32 to 48 bits and starts at level 1 (up to 40 bits, the last one with two
 * concatenated tables) or level 0. The caller holds the root's lock and passes addresses inside its range. Every
 * update is one store: a walk at any moment sees the old entry, the new one, or a fault.
 */
import { dsb_ishst, isb, pt_read, pt_write } from "./machine";
import { poolAlloc } from "./pool";
import { tlbFlushIpa } from "./tlb";

export const PTE_VALID: u64 = 1;
/** With `PTE_VALID`: a table at levels 0 to 2, a page at level 3. Without: a block. */
export const PTE_TABLE: u64 = 2;
/** Output address bits of a descriptor. */
export const PTE_ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/** Stage 2 attributes (Arm ARM D8.3.2): memory type, access permission, shareability, access flag, execute-never. */
export const PTE_MEMATTR: u64 = 0xf << 2;
export const PTE_MEMATTR_NORMAL: u64 = 0xf << 2;
export const PTE_MEMATTR_DEVICE: u64 = 0x1 << 2;
/** Normal non-cacheable memory, and the first type that is no device. With HCR_EL2.FWB these two stay the same. */
export const PTE_MEMATTR_NON_CACHEABLE: u64 = 0x5 << 2;
export const PTE_MEMATTR_NO_DEVICE: u64 = 0x4 << 2;
/** With HCR_EL2.FWB, normal write-back memory whatever stage 1 says (Arm ARM D8.6.6). */
export const PTE_MEMATTR_FWB_NORMAL: u64 = 0x6 << 2;
export const PTE_S2AP_R: u64 = 1 << 6;
export const PTE_S2AP_W: u64 = 1 << 7;
export const PTE_SH_INNER: u64 = 3 << 8;
export const PTE_AF: u64 = 1 << 10;
export const PTE_XN: u64 = 3 << 53;

/** Result of a walk: the address of an entry, with its level in the two low bits. */
const SLOT_LEVEL: u64 = 3;

/** Address bits below the index of `level`. */
export function levelShift(level: u32): u64 {
  return <u64>(39 - 9 * level);
}

export function isTable(entry: u64): bool {
  return (entry & (PTE_VALID | PTE_TABLE)) == (PTE_VALID | PTE_TABLE);
}

/** Level of the slot that a walk returned. */
export function slotLevel(slot: u64): u32 {
  return <u32>(slot & SLOT_LEVEL);
}

/** Physical address of the entry that a walk returned. */
export function slotAddress(slot: u64): u64 {
  return slot & ~SLOT_LEVEL;
}

/** Level at which a root for `ipaBits` of input address starts. Up to 40 bits fit two concatenated tables. */
export function startLevel(ipaBits: u64): u32 {
  return ipaBits > 40 ? 0 : 1;
}

/** VTCR_EL2 for `ipaBits` of input address: inner shareable write-back walks, 4 KiB granule, `physicalRange` as PS. */
export function vtcrFor(ipaBits: u64, physicalRange: u64): u64 {
  const sl0: u64 = startLevel(ipaBits) == 0 ? 2 : 1;
  return (1 << 31) | (physicalRange << 16) | (3 << 12) | (1 << 10) | (1 << 8) | (sl0 << 6) | (64 - ipaBits);
}

/** Entry of the root for `ipa`, at level `start`. */
export function rootSlot(root: u64, start: u32, ipa: u64): u64 {
  return root + ((ipa >> levelShift(start)) << 3);
}

/** Entry for `ipa` in the table of `level` that `entry` of the level above points to. */
export function childSlot(entry: u64, ipa: u64, level: u32): u64 {
  return (entry & PTE_ADDRESS) + (((ipa >> levelShift(level)) & 511) << 3);
}

/** Finds the entry for `ipa` at `target`, or the first one above it that is not a table. */
export function walk(root: u64, start: u32, ipa: u64, target: u32): u64 {
  let level = start;
  let slot = rootSlot(root, level, ipa);
  while (level < target) {
    const entry = pt_read(slot);
    if (!isTable(entry)) break;
    level++;
    slot = childSlot(entry, ipa, level);
  }
  return slot | <u64>level;
}

/**
 * Finds the entry for `ipa` at `target`, making the tables above it where there are none. Stops at a block above
 * `target`. Returns 0, with no mapping changed, when the pool is empty.
 */
export function reach(root: u64, start: u32, ipa: u64, target: u32): u64 {
  let level = start;
  let slot = rootSlot(root, level, ipa);
  while (level < target) {
    let entry = pt_read(slot);
    if (!isTable(entry)) {
      if ((entry & PTE_VALID) != 0) break;
      const table = poolAlloc();
      if (table == 0) return 0;
      entry = table | PTE_TABLE | PTE_VALID;
      setEntry(slot, entry);
    }
    level++;
    slot = childSlot(entry, ipa, level);
  }
  return slot | <u64>level;
}

/** Makes an entry that was invalid valid: earlier writes to the table or page it points to are seen first. */
export function setEntry(slot: u64, entry: u64): void {
  dsb_ishst();
  pt_write(slot, entry);
  dsb_ishst();
  isb();
}

/** Takes an entry away from the translation `vttbr` and from every TLB. `ipa` is any address it translates. */
export function clearEntry(slot: u64, vttbr: u64, ipa: u64): void {
  pt_write(slot, 0);
  tlbFlushIpa(vttbr, ipa);
}

/** Replaces the entry at `slot`, whatever it is, by `entry`: break before make. */
export function replaceEntry(slot: u64, entry: u64, vttbr: u64, ipa: u64): void {
  clearEntry(slot, vttbr, ipa);
  setEntry(slot, entry);
}

/**
 * Replaces the block at `slot` of `level` (1 or 2) by a table of 512 smaller leaves that map the same. False, with
 * nothing changed, when the pool is empty.
 */
export function splitBlock(slot: u64, level: u32, vttbr: u64, ipa: u64): bool {
  const table = poolAlloc();
  if (table == 0) return false;
  const block = pt_read(slot);
  const leaf = level == 2 ? block | PTE_TABLE : block;
  const shift = levelShift(level + 1);
  for (let i: u64 = 0; i < 512; i++) pt_write(table + (i << 3), leaf + (i << shift));
  replaceEntry(slot, table | PTE_TABLE | PTE_VALID, vttbr, ipa);
  return true;
}
