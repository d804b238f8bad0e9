/**
 * A ring of the last core events, and the panic record: for people, never read by the core.
 *
 * Each event is four words: sequence number, CPU and kind; then three values whose meaning depends on the kind.
 * `boot/trace.ts` reads the ring from outside and prints it.
 */

import { bootInfo, CoreState } from "./bootinfo";
import { CORE_STATE, PANIC_RECORD, TRACE_EVENTS, TRACE_RING } from "./layout";
import { halt, mrs_elr_el2, mrs_esr_el2, mrs_far_el2, mrs_hpfar_el2, mrs_spsr_el2 } from "./machine";
import { Cpu } from "./percpu";

/** Kinds of events. `boot/trace.ts` shows the names. */
export namespace Event {
  export const BOOT: u32 = 1;
  export const CPU_ON: u32 = 2;
  export const CPU_OFF: u32 = 3;
  export const HOST_CALL: u32 = 4;
  export const HOST_CALL_REFUSED: u32 = 5;
  export const HOST_SMC_REFUSED: u32 = 6;
  export const HOST_ABORT_REFUSED: u32 = 7;
  export const PAGE_RETURNED: u32 = 8;
  export const PAGE_WITHDRAWN: u32 = 9;
  export const VM_INIT: u32 = 10;
  export const VCPU_INIT: u32 = 11;
  export const VM_TEARDOWN: u32 = 12;
  export const MAP_REFUSED: u32 = 13;
  export const RUN_REFUSED: u32 = 14;
  export const GUEST_ENTER: u32 = 15;
  export const GUEST_EXIT: u32 = 16;
  export const GUEST_MAP: u32 = 17;
}

/** Reasons of a panic. */
export namespace Panic {
  /** The boot tool's information contradicts itself. */
  export const BOOT_INFO: u32 = 1;
  /** The CPU lacks what the core needs. */
  export const UNSUPPORTED_CPU: u32 = 2;
  /** A CPU started that nobody asked for. */
  export const UNEXPECTED_CPU: u32 = 3;
  /** An exception taken from EL2 itself. */
  export const EL2_EXCEPTION: u32 = 4;
}

@unmanaged
export class PanicRecord {
  reason: u64;
  cpu: u64;
  detail: u64;
  esrEl2: u64;
  farEl2: u64;
  hpfarEl2: u64;
  elrEl2: u64;
  spsrEl2: u64;
}

/** Records an event. */
export function trace(cpu: Cpu, kind: u32, a: u64, b: u64, c: u64): void {
  const sequence = atomic.add<u32>(CORE_STATE, 1, offsetof<CoreState>("traceNext"));
  const slot = TRACE_RING | ((<usize>(sequence & (TRACE_EVENTS - 1))) << 5);
  store<u64>(slot, ((<u64>sequence) << 32) | (cpu.index << 16) | <u64>kind);
  store<u64>(slot, a, 8);
  store<u64>(slot, b, 16);
  store<u64>(slot, c, 24);
}

/** Records an event of the hot path when the boot tool asked for it. */
export function traceExit(cpu: Cpu, kind: u32, a: u64, b: u64, c: u64): void {
  if (bootInfo.traceExits != 0) trace(cpu, kind, a, b, c);
}

/** Writes down where the core stands and ends it. */
export function panic(cpu: Cpu, reason: u32, detail: u64): void {
  const record = changetype<PanicRecord>(PANIC_RECORD);
  record.cpu = cpu.index;
  record.detail = detail;
  record.esrEl2 = mrs_esr_el2();
  record.farEl2 = mrs_far_el2();
  record.hpfarEl2 = mrs_hpfar_el2();
  record.elrEl2 = mrs_elr_el2();
  record.spsrEl2 = mrs_spsr_el2();
  record.reason = <u64>reason;
  halt();
}
