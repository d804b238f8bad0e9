/**
 * What the boot tool tells the core, and the core's own state.
 *
 * The boot tool writes a `BootInfo` into the core's image before the machine starts; `boot` checks it and refuses to
 * start on a contradiction. Sizes are in pages of 4096 bytes, addresses are physical.
 */
import { BOOT_INFO, CORE_STATE } from "./layout";

@unmanaged
export class BootInfo {
  /** Number of CPUs the machine has, at most `MAX_CPUS`. */
  cpus: u64;
  /** First byte of RAM and the number of pages from there to the end of RAM. */
  ramBase: u64;
  ramPages: u64;
  /** The core's own memory: image, roots, owner table and pool lie inside; no other principal ever maps it. */
  coreBase: u64;
  corePages: u64;
  /**
   * Page-table roots: `MAX_VMS` times two pages, 2 MiB aligned, so that a slot number is part of its root's address. Not 0, for an
   * entry at address 0 means that there is none.
   */
  rootsBase: u64;
  /** The owner table: 8 bytes a page of RAM. */
  s2pageBase: u64;
  /** Table pages for the pool. */
  poolBase: u64;
  poolPages: u64;
  /** Where the host starts, and the device tree it is given. */
  hostEntry: u64;
  hostDtb: u64;
  /** Where firmware starts a secondary CPU. */
  secondaryEntry: u64;
  /** 1 when every VM is private: its pages are donated to it. */
  privateVms: u64;
  /** 1 when exits and entries are traced as well. */
  traceExits: u64;
}

/** Affinity of CPU `index` as in MPIDR_EL1, after the fields of `BootInfo`. */
export const BOOT_INFO_MPIDR: usize = BOOT_INFO + 0x100;

export const bootInfo: BootInfo = changetype<BootInfo>(BOOT_INFO);

@unmanaged
export class CoreState {
  /** 1 once `boot` has run. */
  booted: u64;
  /** First free table page, or 0; each free page holds the next one's address in its first word. LOCK_POOL. */
  poolHead: u64;
  poolFree: u64;
  /** Input address bits of the host's stage 2, 32 to 48; its VTCR_EL2. Written by `boot` only. */
  hostIpaBits: u64;
  hostVtcr: u64;
  /** 1 when the CPUs have FEAT_S2FWB: guests run with HCR_EL2.FWB, which gives their tables another encoding. */
  forceWriteBack: u64;
  /** VM slots below this one have been used. LOCK_VMS. */
  vmSlots: u64;
  /** vCPU records below this one have been used. LOCK_VMS. */
  vcpuSlots: u64;
  /** Events recorded so far; the ring keeps the last `TRACE_EVENTS`. Atomic, 32 bits. */
  traceNext: u64;
}

export const coreState: CoreState = changetype<CoreState>(CORE_STATE);
