/**
 * The owner table: who owns each page of RAM.
 *
 * One 64-bit entry a page: the owner in bits 63:40, and below it a count or a frame. For a page of the host the low
 * bits count its uses: mappings in page tables of ordinary VMs, and structures the core keeps reading and writing.
 * A page in use is never donated. For a page of a VM they hold the one guest frame it is mapped at. LOCK_S2PAGE guards
 * the table.
 */
import { bootInfo } from "./bootinfo";
import { s2page_read, s2page_write } from "./machine";

/** The host and, with it, all ordinary VMs. */
export const OWNER_HOST: u64 = 0;
/** The core itself. */
export const OWNER_CORE: u64 = 1;
/** VM handles, see `vm.ts`, are larger than this. */
export const OWNER_RESERVED: u64 = 255;

const OWNER_SHIFT: u64 = 40;
const PAYLOAD: u64 = (1 << 40) - 1;

/** Number of the page of RAM at `pa`; at least `ramPages` when `pa` is not RAM. */
export function s2pageIndex(pa: u64): u64 {
  return (pa - bootInfo.ramBase) >> 12;
}

/** True when `pa` lies in RAM. */
export function isRam(pa: u64): bool {
  return s2pageIndex(pa) < bootInfo.ramPages;
}

/** Owner of page `index`, which is in RAM. */
export function ownerOf(index: u64): u64 {
  return s2page_read(index) >> OWNER_SHIFT;
}

/** Guest frame number of page `index`, which a VM owns. */
export function frameOf(index: u64): u64 {
  return s2page_read(index) & PAYLOAD;
}

/** True when page `index` is the host's, used or not. */
export function isHostPage(index: u64): bool {
  return s2page_read(index) >> OWNER_SHIFT == OWNER_HOST;
}

/** True when page `index` is the host's and nothing uses it: it may change owner. */
export function isFreePage(index: u64): bool {
  return s2page_read(index) == 0;
}

/** Gives page `index` to `owner`, a VM that maps it at guest frame `frame`, or the core or the host with `frame` 0. */
export function setOwner(index: u64, owner: u64, frame: u64): void {
  s2page_write(index, (owner << OWNER_SHIFT) | (frame & PAYLOAD));
}

/** Counts one more use of a page of the host. */
export function addUse(index: u64): void {
  s2page_write(index, s2page_read(index) + 1);
}

/** Counts one use less of a page of the host that is in use. */
export function dropUse(index: u64): void {
  s2page_write(index, s2page_read(index) - 1);
}
