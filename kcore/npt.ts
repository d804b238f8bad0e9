/**
 * Nested page tables: the stage 2 of each VM, owned by the core.
 *
 * VM slot `v` has VMID `v` and its root at `rootsBase` + 8 KiB times `v`. Pages are mapped at level 3 or as 2 MiB
 * blocks at level 2. The root's lock, number `v`, guards each tree; the tree of a free slot is empty. What a VM may map
 * is decided in `memory.ts`.
 */
import { bootInfo, coreState } from "./bootinfo";
import { pt_read } from "./machine";
import {
  levelShift,
  PTE_MEMATTR_FWB_NORMAL,
  PTE_MEMATTR_NORMAL,
  reach,
  slotAddress,
  slotLevel,
  startLevel,
  walk,
} from "./pgtable";

/** Attributes of write-back memory in the tables of VMs, which depend on HCR_EL2.FWB. */
export function nptNormal(): u64 {
  return coreState.forceWriteBack != 0 ? PTE_MEMATTR_FWB_NORMAL : PTE_MEMATTR_NORMAL;
}

/** Root of VM slot `slot`. */
export function nptRoot(slot: u32): u64 {
  return bootInfo.rootsBase + ((<u64>slot) << 13);
}

/** VTTBR_EL2 of VM slot `slot`: its root and its VMID. */
export function nptVttbr(slot: u32): u64 {
  return nptRoot(slot) | ((<u64>slot) << 48);
}

/** The entry that ends the walk for `ipa` at or above `target`, as `walk` returns it. */
export function nptWalk(slot: u32, ipaBits: u64, ipa: u64, target: u32): u64 {
  return walk(nptRoot(slot), startLevel(ipaBits), ipa, target);
}

/** Descriptor of the leaf that maps `ipa`, or an invalid one. */
export function nptLeaf(slot: u32, ipaBits: u64, ipa: u64): u64 {
  return pt_read(slotAddress(nptWalk(slot, ipaBits, ipa, 3)));
}

/** As `reach` for VM slot `slot`: the tables above the entry of `target` for `ipa` exist on success. */
export function nptReach(slot: u32, ipaBits: u64, ipa: u64, target: u32): u64 {
  return reach(nptRoot(slot), startLevel(ipaBits), ipa, target);
}

/** The first address after `ipa` that the entry at `found`, a result of `nptWalk`, does not translate. */
export function nptNext(found: u64, ipa: u64): u64 {
  const shift = levelShift(slotLevel(found));
  return ((ipa >> shift) + 1) << shift;
}
