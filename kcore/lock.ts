/**
 * Ticket locks, and the try-lock of a vCPU record.
 *
 * A ticket lock is two 32-bit words, `next` and `serving`. Acquire takes a ticket atomically and waits for its turn;
 * release hands the lock to the next ticket, so that waiters are served in order. Only the holder writes `serving`.
 *
 * Lock order, outermost first; a CPU acquires only downwards:
 * the try-lock of the vCPU it runs, LOCK_VMS, a root's lock (at most one), LOCK_HOSTMAP, LOCK_S2PAGE, LOCK_POOL.
 */
import { LOCKS } from "./layout";

/** VM table and vCPU table: who exists. Locks below `MAX_VMS` are those of the VMs' page tables, by slot. */
export const LOCK_VMS: u32 = 256;
/** The host's stage-2 tables. */
export const LOCK_HOSTMAP: u32 = 257;
/** The owner table. */
export const LOCK_S2PAGE: u32 = 258;
/** The free table pages. */
export const LOCK_POOL: u32 = 259;
/** Which CPUs are being started, and where. */
export const LOCK_PSCI: u32 = 260;

const SERVING: usize = 4;

function lockAddress(lock: u32): usize {
  return LOCKS + ((<usize>(lock & 511)) << 3);
}

/** Waits for the lock and takes it. */
export function acquire(lock: u32): void {
  const address = lockAddress(lock);
  const ticket = atomic.add<u32>(address, 1);
  while (atomic.load<u32>(address, SERVING) != ticket) {}
}

/** Hands the lock on; the caller holds it. */
export function release(lock: u32): void {
  const address = lockAddress(lock);
  atomic.store<u32>(address, atomic.load<u32>(address, SERVING) + 1, SERVING);
}

/** Takes the try-lock at `word` if it is free: true when this CPU holds it now. */
export function tryAcquire(word: usize): bool {
  return atomic.cmpxchg<u32>(word, 0, 1) == 0;
}

/** Frees the try-lock at `word`; the caller holds it. */
export function tryRelease(word: usize): void {
  atomic.store<u32>(word, 0);
}
