/**
 * A monitor that shares 64 pages of memory between principals 1 to 255.
 *
 * A principal claims a page that is nobody's, gives it to another, or drops it. Nobody ever sees what was in a page before it was
 * theirs: a page is wiped whenever it changes hands.
 */

import { page_wipe } from "./machine";

/** The owner table: one 64-bit word a page, the principal that owns it. */
const OWNERS: usize = 0x1000;
const PAGES: u32 = 64;
const PRINCIPALS: u32 = 256;
const NOBODY: u64 = 0;

const EPERM: i32 = -1;
const EBUSY: i32 = -16;
const EINVAL: i32 = -22;

function isPrincipal(who: u32): bool {
  return who != 0 && who < PRINCIPALS;
}

function ownerOf(page: u32): u64 {
  return load<u64>(OWNERS + ((<usize>page) << 3));
}

/** Hands the page, wiped, to `who`. */
function handOver(page: u32, who: u64): void {
  page_wipe(page);
  store<u64>(OWNERS + ((<usize>page) << 3), who);
}

/** `who` takes a page that is nobody's: 0, EINVAL for a principal or page that does not exist, EBUSY for a page that is somebody's. */
export function claim(who: u32, page: u32): i32 {
  if (!isPrincipal(who) || page >= PAGES) return EINVAL;
  if (ownerOf(page) != NOBODY) return EBUSY;
  handOver(page, who);
  return 0;
}

/** `who` gives its page to principal `to`: 0, EINVAL for a principal or page that does not exist, EPERM for a page of another's. */
export function give(who: u32, page: u32, to: u32): i32 {
  if (!isPrincipal(who) || !isPrincipal(to) || page >= PAGES) return EINVAL;
  if (ownerOf(page) != <u64>who) return EPERM;
  handOver(page, to);
  return 0;
}

/** `who` gives its page up: 0, EINVAL for a principal or page that does not exist, EPERM for a page of another's. */
export function drop(who: u32, page: u32): i32 {
  if (!isPrincipal(who) || page >= PAGES) return EINVAL;
  if (ownerOf(page) != <u64>who) return EPERM;
  handOver(page, NOBODY);
  return 0;
}

/** A page of `who`, or -1 when it has none. */
export function find(who: u32): i32 {
  for (let page: u32 = 0; page < PAGES; page++) {
    if (ownerOf(page) == <u64>who) return page;
  }
  return -1;
}
