/**
 * The host's stage 2: an identity map of every page of the host and of all device memory.
 *
 * It is filled on demand, with the largest block that holds nothing of the core: an invalid entry above level 3 says
 * that no page below it was ever donated, because donating makes tables down to level 3 and tables stay.
 * LOCK_HOSTMAP guards it.
 */
import { bootInfo, coreState } from "./bootinfo";
import { pt_read, pt_zero } from "./machine";
import {
  clearEntry,
  isTable,
  levelShift,
  PTE_ADDRESS,
  PTE_AF,
  PTE_MEMATTR_DEVICE,
  PTE_MEMATTR_NORMAL,
  PTE_S2AP_R,
  PTE_S2AP_W,
  PTE_SH_INNER,
  PTE_TABLE,
  PTE_VALID,
  reach,
  replaceEntry,
  setEntry,
  slotAddress,
  slotLevel,
  splitBlock,
  startLevel,
  walk,
} from "./pgtable";
import { poolAlloc } from "./pool";
import { isRam } from "./s2page";
import { tlbFlushVmid } from "./tlb";

/** VTTBR_EL2 while the host runs: its root, VMID 0. */
export function hostVttbr(): u64 {
  return bootInfo.rootsBase;
}

function hostStart(): u32 {
  return startLevel(coreState.hostIpaBits);
}

/** True when two ranges of addresses, given as first byte and size, have a byte in common. */
function overlaps(a: u64, aSize: u64, b: u64, bSize: u64): bool {
  return a < b + bSize && b < a + aSize;
}

/** True when the region of `level` around `ipa` holds nothing of the core and is all RAM or all devices. */
function mayBeLeaf(ipa: u64, level: u32): bool {
  if (level == 3) return true;
  if (level == 0) return false;
  const size = (<u64>1) << levelShift(level);
  const base = ipa & ~(size - 1);
  if (overlaps(base, size, bootInfo.coreBase, bootInfo.corePages << 12)) return false;
  if (!overlaps(base, size, bootInfo.ramBase, bootInfo.ramPages << 12)) return true;
  return isRam(base) && isRam(base + size - 1);
}

/** Leaf that maps the region of `level` around `ipa` to itself. */
function hostLeaf(ipa: u64, level: u32): u64 {
  const base = (ipa >> levelShift(level)) << levelShift(level);
  const kind = isRam(ipa) ? PTE_MEMATTR_NORMAL | PTE_SH_INNER : PTE_MEMATTR_DEVICE;
  const form = level == 3 ? PTE_TABLE | PTE_VALID : PTE_VALID;
  return base | kind | PTE_S2AP_R | PTE_S2AP_W | PTE_AF | form;
}

/**
 * Maps the page at `ipa`, which is the host's or no RAM, with the largest block possible. True when it is mapped
 * now, false when the pool is empty.
 */
export function hostmapMap(ipa: u64): bool {
  let level = hostStart();
  while (level <= 3) {
    const slot = reach(hostVttbr(), hostStart(), ipa, level);
    if (slot == 0) return false;
    const entry = pt_read(slotAddress(slot));
    if ((entry & PTE_VALID) != 0) {
      if (level == 3 || !isTable(entry)) return true;
    } else if (mayBeLeaf(ipa, level)) {
      setEntry(slotAddress(slot), hostLeaf(ipa, level));
      return true;
    }
    level++;
  }
  return false;
}

/** True when the host's tables map `ipa` now. */
export function hostmapMapped(ipa: u64): bool {
  const slot = walk(hostVttbr(), hostStart(), ipa, 3);
  return (pt_read(slotAddress(slot)) & PTE_VALID) != 0;
}

/**
 * Makes the tables above the entry of `level` (2 or 3) for `ipa`, splitting blocks, without changing what is
 * mapped. Returns the entry's address, or 0 when the pool is empty.
 */
function hostmapReach(ipa: u64, level: u32): u64 {
  for (let tries: u32 = 0; tries < 3; tries++) {
    const slot = reach(hostVttbr(), hostStart(), ipa, level);
    if (slot == 0) return 0;
    if (slotLevel(slot) == level) return slotAddress(slot);
    if (!splitBlock(slotAddress(slot), slotLevel(slot), hostVttbr(), ipa)) return 0;
  }
  return 0;
}

/** Takes the page at `ipa` from the host's tables and every TLB. False, with nothing taken, when the pool is empty. */
export function hostmapUnmapPage(ipa: u64): bool {
  const slot = hostmapReach(ipa, 3);
  if (slot == 0) return false;
  if ((pt_read(slot) & PTE_VALID) != 0) clearEntry(slot, hostVttbr(), ipa);
  return true;
}

/** As `hostmapUnmapPage`, for the 512 pages of the 2 MiB block at `ipa`. */
export function hostmapUnmapBlock(ipa: u64): bool {
  const slot = hostmapReach(ipa, 2);
  if (slot == 0) return false;
  const entry = pt_read(slot);
  if (isTable(entry)) {
    pt_zero(entry & PTE_ADDRESS);
    tlbFlushVmid(hostVttbr());
    return true;
  }
  const table = poolAlloc();
  if (table == 0) return false;
  if ((entry & PTE_VALID) != 0) replaceEntry(slot, table | PTE_TABLE | PTE_VALID, hostVttbr(), ipa);
  else setEntry(slot, table | PTE_TABLE | PTE_VALID);
  return true;
}
