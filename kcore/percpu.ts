/**
 * The per-CPU area: what a CPU runs now, and the host's registers while a guest's are in the machine.
 *
 * Only the CPU itself touches its area, with interrupts masked, so no lock is needed. The vectors keep x0..x30 of
 * the interrupted context in `HOST_FRAME` or `GUEST_FRAME` of the area.
 */
import { CPU_AREAS, GUEST_FRAME, HOST_FRAME } from "./layout";

@unmanaged
export class Cpu {
  /** Position in the boot tool's list of CPUs. */
  index: u64;
  /** The vCPU record whose context is in the machine, or 0 while the host runs. Its try-lock is held. */
  running: u64;
  /** The vCPU record this CPU ran last: a hint for the next lookup. */
  lastVcpu: u64;
  /** Features of this CPU: FEATURE_* bits. */
  features: u64;
  /** Highest index of breakpoints, watchpoints, list registers; priority bits of the GIC (5, 6 or 7). */
  lastBreakpoint: u64;
  lastWatchpoint: u64;
  lastListRegister: u64;
  priorityBits: u64;
  /** EL2 registers while the host runs. */
  hostMdcr: u64;
  hostCptr: u64;
  hostHcrx: u64;
  /** 1 when the guest's FP/SIMD registers are in the machine. */
  fpLoaded: u64;
  /** 1 when the guest's breakpoint registers are in the machine. */
  debugLoaded: u64;
  /** List registers that the guest in the machine uses. */
  usedLrs: u64;
  /** Where the host continues when the CPU comes up, with `bootContext` in x0. LOCK_PSCI. */
  bootEntry: u64;
  bootContext: u64;
  /** 1 between a CPU_ON of this CPU and its arrival. LOCK_PSCI. */
  bootPending: u64;

  /** The host's registers while a guest runs. */
  elrEl2: u64;
  spsrEl2: u64;
  spEl0: u64;
  sctlrEl1: u64;
  cpacrEl1: u64;
  zcrEl1: u64;
  ttbr0El1: u64;
  ttbr1El1: u64;
  tcrEl1: u64;
  tcr2El1: u64;
  pirEl1: u64;
  pire0El1: u64;
  porEl1: u64;
  porEl0: u64;
  esrEl1: u64;
  afsr0El1: u64;
  afsr1El1: u64;
  farEl1: u64;
  mairEl1: u64;
  vbarEl1: u64;
  contextidrEl1: u64;
  amairEl1: u64;
  cntkctlEl1: u64;
  parEl1: u64;
  tpidrEl1: u64;
  spEl1: u64;
  elrEl1: u64;
  spsrEl1: u64;
  mdscrEl1: u64;
  mdccintEl1: u64;
  tpidrEl0: u64;
  tpidrroEl0: u64;
  smpriEl1: u64;
  tpidr2El0: u64;
  pmuserenrEl0: u64;
  pmscrEl1: u64;
  trfcrEl1: u64;
  /** PMU events exchanged at the entry: the host's in the low half, the guest's in the high half. */
  pmuEvents: u64;
  /** HCR_EL2 of the guest in the machine. */
  guestHcr: u64;
}

export const FEATURE_SVE: u64 = 1 << 0;
export const FEATURE_RAS: u64 = 1 << 1;
export const FEATURE_PMU: u64 = 1 << 2;
export const FEATURE_SPE: u64 = 1 << 3;
export const FEATURE_TRBE: u64 = 1 << 4;
export const FEATURE_HCX: u64 = 1 << 5;
export const FEATURE_TCR2: u64 = 1 << 6;
export const FEATURE_S1PIE: u64 = 1 << 7;
export const FEATURE_S1POE: u64 = 1 << 8;
export const FEATURE_PAUTH: u64 = 1 << 9;
export const FEATURE_SME: u64 = 1 << 10;
export const FEATURE_A32_EL0: u64 = 1 << 11;
export const FEATURE_FGT: u64 = 1 << 12;
export const FEATURE_AMU: u64 = 1 << 13;
export const FEATURE_FWB: u64 = 1 << 14;

/** The area of CPU `index`. */
export function cpuArea(index: u32): Cpu {
  return changetype<Cpu>(CPU_AREAS | ((<usize>(index & 63)) << 12));
}

/** x`n` of the host, 0 to 30. */
export function hostReg(cpu: Cpu, n: u32): u64 {
  return load<u64>(changetype<usize>(cpu) + ((<usize>(n & 31)) << 3), HOST_FRAME);
}

export function setHostReg(cpu: Cpu, n: u32, value: u64): void {
  store<u64>(changetype<usize>(cpu) + ((<usize>(n & 31)) << 3), value, HOST_FRAME);
}

/** Linear address of x0..x30 of the host. */
export function hostFrame(cpu: Cpu): usize {
  return changetype<usize>(cpu) + HOST_FRAME;
}

/** Linear address of x0..x30 of the guest. */
export function guestFrame(cpu: Cpu): usize {
  return changetype<usize>(cpu) + GUEST_FRAME;
}
