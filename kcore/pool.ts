/**
 * Table pages: allocated zeroed, returned for reuse.
 *
 * A free page is zero but for its first word, which holds the physical address of the next free page. All pages of
 * the pool belong to the core. LOCK_POOL guards the list.
 */
import { bootInfo, coreState } from "./bootinfo";
import { acquire, LOCK_POOL, release } from "./lock";
import { pt_read, pt_write, pt_zero } from "./machine";

/** Makes every page of the pool free. Called once, by `boot`. */
export function poolInit(): void {
  let head: u64 = 0;
  for (let i: u64 = 0; i < bootInfo.poolPages; i++) {
    const page = bootInfo.poolBase + (i << 12);
    pt_zero(page);
    pt_write(page, head);
    head = page;
  }
  coreState.poolHead = head;
  coreState.poolFree = bootInfo.poolPages;
}

/** Physical address of a table page full of zeroes, or 0 when none is left. */
export function poolAlloc(): u64 {
  acquire(LOCK_POOL);
  const page = coreState.poolHead;
  if (page != 0) {
    coreState.poolHead = pt_read(page);
    coreState.poolFree -= 1;
    pt_write(page, 0);
  }
  release(LOCK_POOL);
  return page;
}

/** Takes back a table page that no table links any more and no walk can still reach. */
export function poolFree(page: u64): void {
  pt_zero(page);
  acquire(LOCK_POOL);
  pt_write(page, coreState.poolHead);
  coreState.poolHead = page;
  coreState.poolFree += 1;
  release(LOCK_POOL);
}
