/**
 * Memory of the host that the core reads and writes: finding it, and holding it in place.
 *
 * The host passes kernel virtual addresses. A structure that the core keeps using is pinned: each of its pages counts
 * one use, so that no VM can be given it while the core may still write there.
 */
import { acquire, LOCK_S2PAGE, release } from "./lock";
import { at_s1e1r, isb, mrs_par_el1, msr_par_el1 } from "./machine";
import { PTE_ADDRESS } from "./pgtable";
import { addUse, dropUse, isHostPage, isRam, s2pageIndex } from "./s2page";

/** Largest structure that is pinned, in pages. */
export const MAX_PIN_PAGES: u64 = 8;

const PAR_F: u64 = 1;

/** Physical address of the host's virtual address `va` by the host's own stage 1, or 0 when it maps none. */
export function translate(va: u64): u64 {
  const saved = mrs_par_el1();
  at_s1e1r(va);
  isb();
  const par = mrs_par_el1();
  msr_par_el1(saved);
  if ((par & PAR_F) != 0) return 0;
  return (par & PTE_ADDRESS) | (va & 0xfff);
}

/** Number of pages that `size` bytes from `address` touch. */
export function pagesOf(address: u64, size: u64): u64 {
  return ((address & 0xfff) + size + 0xfff) >> 12;
}

/** Physical address of `size` bytes at `va` if they are contiguous in host memory of at most `MAX_PIN_PAGES`, or 0. */
export function translateRange(va: u64, size: u64): u64 {
  const pa = translate(va);
  if (pa == 0) return 0;
  const pages = pagesOf(va, size);
  if (pages > MAX_PIN_PAGES) return 0;
  for (let i: u64 = 1; i < MAX_PIN_PAGES && i < pages; i++) {
    if (translate((va & ~0xfff) + (i << 12)) != (pa & ~0xfff) + (i << 12)) return 0;
  }
  return pa;
}

/** Counts one more use of each page that `size` bytes at `pa` touch. False, with none counted, if one is not the host's. */
export function pin(pa: u64, size: u64): bool {
  const first = s2pageIndex(pa);
  const pages = pagesOf(pa, size);
  let mine = pages <= MAX_PIN_PAGES;
  acquire(LOCK_S2PAGE);
  for (let i: u64 = 0; i < MAX_PIN_PAGES && mine && i < pages; i++)
    mine = isRam(pa + (i << 12)) && isHostPage(first + i);
  for (let i: u64 = 0; i < MAX_PIN_PAGES && mine && i < pages; i++) addUse(first + i);
  release(LOCK_S2PAGE);
  return mine;
}

/** Takes back a pin of the same range. */
export function unpin(pa: u64, size: u64): void {
  const first = s2pageIndex(pa);
  const pages = pagesOf(pa, size);
  acquire(LOCK_S2PAGE);
  for (let i: u64 = 0; i < MAX_PIN_PAGES && i < pages; i++) dropUse(first + i);
  release(LOCK_S2PAGE);
}
