/**
 * Who may map what: lending pages to ordinary VMs, donating pages to private ones, and taking them back.
 *
 * The host proposes mappings in stage 2 tables of its own; the core reads the proposal for the address that faulted
 * and takes it only if the owner table allows. A VM's pages change hands in these orders, so that nobody sees another's
 * data: to the VM, the host's mapping goes, caches are cleaned, the owner changes, the VM's mapping comes; to the
 * host, the VM's mapping goes, the page is zeroed and cleaned, the owner changes, the host's mapping comes.
 */
import { coreState } from "./bootinfo";
import { hostmapMap, hostmapUnmapBlock, hostmapUnmapPage } from "./hostmap";
import { acquire, LOCK_HOSTMAP, LOCK_S2PAGE, release } from "./lock";
import { host_read64, page_clean, page_zero, pt_read, pt_write, pt_zero } from "./machine";
import { nptLeaf, nptNext, nptNormal, nptReach, nptRoot, nptVttbr, nptWalk } from "./npt";
import {
  childSlot,
  clearEntry,
  isTable,
  levelShift,
  PTE_ADDRESS,
  PTE_AF,
  PTE_MEMATTR,
  PTE_MEMATTR_NO_DEVICE,
  PTE_MEMATTR_NON_CACHEABLE,
  PTE_S2AP_R,
  PTE_S2AP_W,
  PTE_SH_INNER,
  PTE_TABLE,
  PTE_VALID,
  PTE_XN,
  rootSlot,
  setEntry,
  slotAddress,
  slotLevel,
  splitBlock,
  startLevel,
} from "./pgtable";
import { poolFree } from "./pool";
import { profile } from "./profile";
import { FAULT_EXECUTE, FAULT_WRITE, Vm, VmState } from "./records";
import {
  addUse,
  dropUse,
  frameOf,
  isFreePage,
  isHostPage,
  isRam,
  OWNER_HOST,
  ownerOf,
  s2pageIndex,
  setOwner,
} from "./s2page";
import { tlbFlushVmid } from "./tlb";

/** What became of a stage 2 fault. */
export namespace Fill {
  /** The address is mapped now. */
  export const MAPPED: u32 = 0;
  /** The host proposes nothing: it must decide. */
  export const ABSENT: u32 = 1;
  /** The host proposes a page that it may not write itself: a private VM takes only pages that are the host's alone. */
  export const READ_ONLY: u32 = 2;
  /** The host proposes what the VM must not have, or no table page is left. */
  export const REFUSED: u32 = 3;
  /** The host's proposal forbids the access; its level is added, times 8. */
  export const DENIED: u32 = 4;
}

const BLOCK_SIZE: u64 = 0x20_0000;
const BLOCK_PAGES: u64 = 512;

/** Execute-never bit of the host's descriptors that forbids both EL1 and EL0. */
const PROPOSAL_XN: u64 = 1 << 54;
const LEVEL: u64 = 3;

/**
 * The leaf that the host's tables propose for `ipa`, with its level in the two low bits, or 0. The address bits are
 * those of the page at `ipa` itself. Tables are read only where they lie in pages of the host. LOCK_S2PAGE is held.
 */
function proposal(vm: Vm, ipa: u64): u64 {
  const vtcr = host_read64(vm.kvmPa + profile.mmuVtcr);
  const pgd = host_read64(vm.kvmPa + profile.mmuPgdPhys);
  const bits = 64 - (vtcr & 63);
  if (bits > 52 || bits < 32 || ipa >> bits != 0) return 0;
  const sl0 = (vtcr >> 6) & 3;
  if (sl0 > 2) return 0;
  let level = 2 - <u32>sl0;
  let slot = (pgd & PTE_ADDRESS) + ((ipa >> levelShift(level)) << 3);
  while (level <= 3) {
    if (!isRam(slot) || !isHostPage(s2pageIndex(slot))) return 0;
    const entry = host_read64(slot);
    if ((entry & PTE_VALID) == 0) return 0;
    const leaf = level == 3 ? isTable(entry) : !isTable(entry);
    if (leaf) {
      const offset = ipa & ((((<u64>1) << levelShift(level)) - 1) & PTE_ADDRESS);
      const page = (((entry & PTE_ADDRESS) >> levelShift(level)) << levelShift(level)) | offset;
      return (entry & ~(PTE_ADDRESS | LEVEL)) | page | <u64>level;
    }
    if (level == 3) return 0;
    level++;
    slot = (entry & PTE_ADDRESS) + (((ipa >> levelShift(level)) & 511) << 3);
  }
  return 0;
}

/** True when `leaf`, a proposal, allows the access `fault`. */
function allows(leaf: u64, fault: u64): bool {
  if ((fault & FAULT_WRITE) != 0) return (leaf & PTE_S2AP_W) != 0;
  if ((fault & FAULT_EXECUTE) != 0) return (leaf & PROPOSAL_XN) == 0;
  return (leaf & PTE_S2AP_R) != 0;
}

/** Guest frame number of `ipa`. */
function frame(ipa: u64): u64 {
  return ipa >> 12;
}

/** True when all pages of the block at `pa` lie in RAM and belong to the host. */
function isHostBlock(pa: u64): bool {
  if (!isRam(pa) || !isRam(pa + BLOCK_SIZE - 1)) return false;
  const first = s2pageIndex(pa);
  let all = true;
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) all = all && isHostPage(first + i);
  return all;
}

/** True when all pages of the block at `pa` lie in RAM, belong to the host and are in no use. */
function isFreeBlock(pa: u64): bool {
  if (!isRam(pa) || !isRam(pa + BLOCK_SIZE - 1)) return false;
  const first = s2pageIndex(pa);
  let all = true;
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) all = all && isFreePage(first + i);
  return all;
}

/** Counts one use less of each page that the leaf `entry` of `level` (2 or 3) mapped for an ordinary VM. */
function dropUses(entry: u64, level: u32): void {
  const first = s2pageIndex(entry & PTE_ADDRESS);
  if (level == 3) {
    dropUse(first);
    return;
  }
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) dropUse(first + i);
}

/** Empties the entry at `slot` of an ordinary VM's tables, where no walk gets, and counts down the uses of its leaf `entry` of `level`. */
function dropEntry(slot: u64, entry: u64, level: u32): void {
  pt_write(slot, 0);
  dropUses(entry, level);
}

/** Unmaps the leaf `entry` at `slot` of `level`, and for an ordinary VM counts the uses down. LOCK_S2PAGE is held. */
function dropLeaf(vm: Vm, slot: u64, entry: u64, level: u32, ipa: u64): void {
  clearEntry(slot, nptVttbr(<u32>vm.slot), ipa);
  if (vm.privateMemory == 0) dropUses(entry, level);
}

/** Empties the level 3 table at `table`, which no entry links any more, and counts down the uses of what it mapped. */
function emptyTable(vm: Vm, table: u64): void {
  if (vm.privateMemory != 0) {
    pt_zero(table);
    return;
  }
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) {
    const slot = table + (i << 3);
    const entry = pt_read(slot);
    if (entry != 0) dropEntry(slot, entry, 3);
  }
}

/** Makes every entry of the table at `table` invalid, and keeps what it was. The caller invalidates the TLBs. */
function retainEntries(table: u64): void {
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) {
    const slot = table + (i << 3);
    pt_write(slot, pt_read(slot) & ~PTE_VALID);
  }
}

/**
 * Puts the entries above level 3 for `ipa` in order that were retained: invalid ones that still hold what they were.
 *
 * Taking back a large range is one store: the entry above it becomes invalid, its table or block stays. No walk gets
 * there any more, and what lies below is taken apart only where the VM next touches it, or when it dies.
 */
function settle(vm: Vm, ipa: u64): void {
  let level = startLevel(vm.ipaBits);
  let slot = rootSlot(nptRoot(<u32>vm.slot), level, ipa);
  while (level < 3) {
    const entry = pt_read(slot);
    if (entry == 0) return;
    if ((entry & PTE_VALID) == 0) {
      if ((entry & PTE_TABLE) == 0) {
        dropEntry(slot, entry, 2);
        return;
      }
      if (level == 2) {
        pt_write(slot, 0);
        emptyTable(vm, entry & PTE_ADDRESS);
        poolFree(entry & PTE_ADDRESS);
        return;
      }
      retainEntries(entry & PTE_ADDRESS);
      tlbFlushVmid(nptVttbr(<u32>vm.slot));
      setEntry(slot, entry | PTE_VALID);
    } else if ((entry & PTE_TABLE) == 0) {
      return;
    }
    level++;
    slot = childSlot(entry, ipa, level);
  }
}

/**
 * Memory type of the host's proposal `leaf`, encoded for the core's tables: devices and non-cacheable memory, which are the
 * same with and without HCR_EL2.FWB, or else write-back.
 */
function proposedType(leaf: u64): u64 {
  const type = leaf & PTE_MEMATTR;
  return type < PTE_MEMATTR_NO_DEVICE || type == PTE_MEMATTR_NON_CACHEABLE ? type : nptNormal();
}

/** Leaf of an ordinary VM for the page or block at `pa`: the host's own choice of type and permission. */
function ordinaryLeaf(leaf: u64, pa: u64, level: u32): u64 {
  const attributes = proposedType(leaf) | (leaf & (PTE_S2AP_R | PTE_S2AP_W | PTE_XN));
  return pa | attributes | PTE_SH_INNER | PTE_AF | (level == 3 ? PTE_TABLE | PTE_VALID : PTE_VALID);
}

/** Leaf of a private VM: ordinary memory that it may read, write and execute. */
function privateLeaf(pa: u64, level: u32): u64 {
  return (
    pa |
    nptNormal() |
    PTE_S2AP_R |
    PTE_S2AP_W |
    PTE_SH_INNER |
    PTE_AF |
    (level == 3 ? PTE_TABLE | PTE_VALID : PTE_VALID)
  );
}

/** Lends the block around the page that `leaf` proposes. ABSENT when it must be mapped page by page. */
function lendBlock(vm: Vm, ipa: u64, leaf: u64): u32 {
  const pa = leaf & PTE_ADDRESS & ~(BLOCK_SIZE - 1);
  if (!isHostBlock(pa)) return Fill.ABSENT;
  const found = nptReach(<u32>vm.slot, vm.ipaBits, ipa, 2);
  if (found == 0) return Fill.REFUSED;
  const slot = slotAddress(found);
  const old = pt_read(slot);
  if (isTable(old)) return Fill.ABSENT;
  const block = ordinaryLeaf(leaf, pa, 2);
  if (old == block) return Fill.MAPPED;
  if ((old & PTE_VALID) != 0) dropLeaf(vm, slot, old, 2, ipa);
  const first = s2pageIndex(pa);
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) addUse(first + i);
  setEntry(slot, block);
  return Fill.MAPPED;
}

/** Lends the page that `leaf` proposes. */
function lendPage(vm: Vm, ipa: u64, leaf: u64): u32 {
  const pa = leaf & PTE_ADDRESS;
  if (!isRam(pa) || !isHostPage(s2pageIndex(pa))) return Fill.REFUSED;
  const above = nptWalk(<u32>vm.slot, vm.ipaBits, ipa, 2);
  const block = pt_read(slotAddress(above));
  if (slotLevel(above) == 2 && (block & PTE_VALID) != 0 && !isTable(block)) {
    dropLeaf(vm, slotAddress(above), block, 2, ipa);
  }
  const found = nptReach(<u32>vm.slot, vm.ipaBits, ipa, 3);
  if (found == 0 || slotLevel(found) != 3) return Fill.REFUSED;
  const slot = slotAddress(found);
  const old = pt_read(slot);
  const page = ordinaryLeaf(leaf, pa, 3);
  if (old == page) return Fill.MAPPED;
  if ((old & PTE_VALID) != 0) dropLeaf(vm, slot, old, 3, ipa);
  addUse(s2pageIndex(pa));
  setEntry(slot, page);
  return Fill.MAPPED;
}

/** Takes the host's proposal for an ordinary VM. The slot's lock is held. */
function lend(vm: Vm, ipa: u64, fault: u64): u32 {
  acquire(LOCK_S2PAGE);
  const leaf = proposal(vm, ipa);
  let status = Fill.ABSENT;
  if (leaf != 0 && !allows(leaf, fault)) {
    status = Fill.DENIED | ((<u32>(leaf & LEVEL)) << 3);
  } else if (leaf != 0) {
    settle(vm, ipa);
    if ((leaf & LEVEL) < 3) status = lendBlock(vm, ipa, leaf);
    if (status == Fill.ABSENT) status = lendPage(vm, ipa, leaf);
  }
  release(LOCK_S2PAGE);
  return status;
}

/** Donates the block around the page that `leaf` proposes. ABSENT when it must go page by page. */
function donateBlock(vm: Vm, ipa: u64, leaf: u64): u32 {
  const pa = leaf & PTE_ADDRESS & ~(BLOCK_SIZE - 1);
  if (!isFreeBlock(pa)) return Fill.ABSENT;
  const found = nptReach(<u32>vm.slot, vm.ipaBits, ipa, 2);
  if (found == 0) return Fill.REFUSED;
  if ((pt_read(slotAddress(found)) & PTE_VALID) != 0) return Fill.ABSENT;
  if (!hostmapUnmapBlock(pa)) return Fill.REFUSED;
  const first = s2pageIndex(pa);
  const firstFrame = frame(ipa & ~(BLOCK_SIZE - 1));
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) page_clean(pa + (i << 12));
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) setOwner(first + i, vm.handle, firstFrame + i);
  setEntry(slotAddress(found), privateLeaf(pa, 2));
  return Fill.MAPPED;
}

/** Donates the page that `leaf` proposes; nothing is mapped at `ipa`. */
function donatePage(vm: Vm, ipa: u64, leaf: u64): u32 {
  const pa = leaf & PTE_ADDRESS;
  if (!isRam(pa) || !isFreePage(s2pageIndex(pa))) return Fill.REFUSED;
  const found = nptReach(<u32>vm.slot, vm.ipaBits, ipa, 3);
  if (found == 0) return Fill.REFUSED;
  if (!hostmapUnmapPage(pa)) return Fill.REFUSED;
  page_clean(pa);
  setOwner(s2pageIndex(pa), vm.handle, frame(ipa));
  setEntry(slotAddress(found), privateLeaf(pa, 3));
  return Fill.MAPPED;
}

/** Takes the host's proposal for a private VM. The slot's lock is held. */
function donate(vm: Vm, ipa: u64): u32 {
  acquire(LOCK_HOSTMAP);
  acquire(LOCK_S2PAGE);
  let status = Fill.MAPPED;
  if ((nptLeaf(<u32>vm.slot, vm.ipaBits, ipa) & PTE_VALID) == 0) {
    const leaf = proposal(vm, ipa);
    if (leaf == 0) status = Fill.ABSENT;
    else if (vm.broken != 0) status = Fill.REFUSED;
    else if ((leaf & PTE_S2AP_W) == 0) status = Fill.READ_ONLY;
    else {
      status = Fill.ABSENT;
      if ((leaf & LEVEL) < 3) status = donateBlock(vm, ipa, leaf);
      if (status == Fill.ABSENT) status = donatePage(vm, ipa, leaf);
    }
  }
  release(LOCK_S2PAGE);
  release(LOCK_HOSTMAP);
  return status;
}

/**
 * Maps what the host proposes at `ipa` for a VM of which a vCPU is held. `fault` says by FAULT_* bits what the
 * access was. The result is one of `Fill`.
 */
export function fill(vm: Vm, ipa: u64, fault: u64): u32 {
  if (ipa >> vm.ipaBits != 0) return Fill.ABSENT;
  acquire(<u32>vm.slot);
  const status = vm.privateMemory != 0 ? donate(vm, ipa) : lend(vm, ipa, fault);
  release(<u32>vm.slot);
  return status;
}

/** Unmaps the page at `ipa` from an ordinary VM: the host changed its mind about it. The slot's lock is held. */
export function takeBackPage(vm: Vm, ipa: u64): void {
  acquire(LOCK_S2PAGE);
  const found = nptWalk(<u32>vm.slot, vm.ipaBits, ipa, 3);
  const entry = pt_read(slotAddress(found));
  if ((entry & PTE_VALID) != 0) dropLeaf(vm, slotAddress(found), entry, slotLevel(found), ipa);
  release(LOCK_S2PAGE);
}

/** Takes everything back from an ordinary VM, by retaining every entry of its root's two tables. The slot's lock is held. */
export function takeBackAll(vm: Vm): void {
  const root = nptRoot(<u32>vm.slot);
  retainEntries(root);
  retainEntries(root + 4096);
  tlbFlushVmid(nptVttbr(<u32>vm.slot));
}

/**
 * Takes back the 2 MiB around `ipa` from an ordinary VM, or passes over the region around it that maps nothing.
 * Returns the first address behind. The slot's lock is held; the caller invalidates the TLBs.
 */
export function takeBackRegion(vm: Vm, ipa: u64): u64 {
  const found = nptWalk(<u32>vm.slot, vm.ipaBits, ipa, 2);
  const slot = slotAddress(found);
  const entry = pt_read(slot);
  if ((entry & PTE_VALID) != 0) pt_write(slot, entry & ~PTE_VALID);
  return nptNext(found, ipa);
}

/** True when every entry of the table at `table` is empty. */
function isEmpty(table: u64): bool {
  let empty = true;
  for (let i: u64 = 0; i < BLOCK_PAGES; i++) empty = empty && pt_read(table + (i << 3)) == 0;
  return empty;
}

/** Gives back the table of `level` + 1 below the entry for `ipa`, if there is one and it is empty. */
function freeTable(vm: Vm, ipa: u64, level: u32): void {
  const slot = slotAddress(nptWalk(<u32>vm.slot, vm.ipaBits, ipa, level));
  const entry = pt_read(slot);
  if (!isTable(entry) || !isEmpty(entry & PTE_ADDRESS)) return;
  pt_write(slot, 0);
  tlbFlushVmid(nptVttbr(<u32>vm.slot));
  poolFree(entry & PTE_ADDRESS);
}

/** True when nothing is left of the tables of a VM but its root, which is empty. The slot's lock is held. */
export function isDismantled(vm: Vm): bool {
  const root = nptRoot(<u32>vm.slot);
  return isEmpty(root) && isEmpty(root + 4096);
}

/**
 * Takes apart the tables of a dying VM from `ipa` on, one region a call. Returns the address to continue at; nothing
 * is left when that is outside the VM's range. The slot's lock is held.
 */
export function dismantle(vm: Vm, ipa: u64): u64 {
  acquire(LOCK_S2PAGE);
  settle(vm, ipa);
  const found = nptWalk(<u32>vm.slot, vm.ipaBits, ipa, 2);
  const entry = pt_read(slotAddress(found));
  const next = nptNext(found, ipa);
  if (isTable(entry)) {
    pt_write(slotAddress(found), 0);
    tlbFlushVmid(nptVttbr(<u32>vm.slot));
    emptyTable(vm, entry & PTE_ADDRESS);
    poolFree(entry & PTE_ADDRESS);
  } else if ((entry & PTE_VALID) != 0) {
    dropLeaf(vm, slotAddress(found), entry, 2, ipa);
  }
  release(LOCK_S2PAGE);
  if ((next & 0x3fff_ffff) == 0) freeTable(vm, ipa, 1);
  if ((next & 0x7f_ffff_ffff) == 0 && startLevel(vm.ipaBits) == 0) freeTable(vm, ipa, 0);
  return next;
}

/** Scrubs the page at `pa` and makes it the host's. LOCK_HOSTMAP and LOCK_S2PAGE are held; no VM maps it. */
function giveToHost(pa: u64): void {
  page_zero(pa);
  page_clean(pa);
  setOwner(s2pageIndex(pa), OWNER_HOST, 0);
  hostmapMap(pa);
}

/** Owner of the page at `pa`, which is RAM, at this moment. */
export function ownerNow(pa: u64): u64 {
  acquire(LOCK_S2PAGE);
  const owner = ownerOf(s2pageIndex(pa));
  release(LOCK_S2PAGE);
  return owner;
}

/** Maps a page of the host, or a device, where the host touched it. False when it is neither or no table is left. */
export function mapForHost(pa: u64): bool {
  if (pa >> coreState.hostIpaBits != 0) return false;
  acquire(LOCK_HOSTMAP);
  acquire(LOCK_S2PAGE);
  const mapped = (!isRam(pa) || isHostPage(s2pageIndex(pa))) && hostmapMap(pa);
  release(LOCK_S2PAGE);
  release(LOCK_HOSTMAP);
  return mapped;
}

/** Returns the page at `pa`, scrubbed, to the host: its `owner` is a VM that no longer exists. */
export function returnPage(pa: u64, owner: u64): void {
  acquire(LOCK_HOSTMAP);
  acquire(LOCK_S2PAGE);
  if (ownerOf(s2pageIndex(pa)) == owner) giveToHost(pa);
  release(LOCK_S2PAGE);
  release(LOCK_HOSTMAP);
}

/** Unmaps the one page at `ipa` from a private VM. False, with nothing changed, when the pool is empty. */
function unmapPrivate(vm: Vm, ipa: u64): bool {
  const vttbr = nptVttbr(<u32>vm.slot);
  let found = nptWalk(<u32>vm.slot, vm.ipaBits, ipa, 3);
  if ((pt_read(slotAddress(found)) & PTE_VALID) == 0) return true;
  if (slotLevel(found) < 3) {
    if (!splitBlock(slotAddress(found), slotLevel(found), vttbr, ipa)) return false;
    found = nptWalk(<u32>vm.slot, vm.ipaBits, ipa, 3);
  }
  clearEntry(slotAddress(found), vttbr, ipa);
  return true;
}

/**
 * Returns the page at `pa`, scrubbed, to the host if the private VM `vm` owns it and is dying, or the host's own
 * tables no longer propose the page: the host has freed it or moves it. A live VM is broken then, for it must not run
 * on without its data. True when the page is the host's now. The slot's lock is held.
 */
export function withdraw(vm: Vm, pa: u64): bool {
  acquire(LOCK_HOSTMAP);
  acquire(LOCK_S2PAGE);
  const index = s2pageIndex(pa);
  let done = false;
  if (ownerOf(index) == vm.handle) {
    const ipa = frameOf(index) << 12;
    const taken = vm.state == VmState.DYING || (proposal(vm, ipa) & PTE_ADDRESS) != (pa & PTE_ADDRESS);
    if (taken && unmapPrivate(vm, ipa)) {
      vm.broken = 1;
      giveToHost(pa);
      done = true;
    }
  }
  release(LOCK_S2PAGE);
  release(LOCK_HOSTMAP);
  return done;
}
