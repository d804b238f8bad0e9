/**
 * Traps from a guest: what the core answers itself, and what it hands to the host.
 */
import { loadGuestFp } from "./fpsimd";
import {
  at_s1e1r,
  host_write64,
  isb,
  mrs_esr_el2,
  mrs_far_el2,
  mrs_hpfar_el2,
  mrs_par_el1,
  msr_par_el1,
} from "./machine";
import { Fill, fill } from "./memory";
import { Cpu, setHostReg } from "./percpu";
import { PTE_ADDRESS } from "./pgtable";
import { profile } from "./profile";
import { FAULT_EXECUTE, FAULT_PRESENT, FAULT_WRITE, Vcpu, vcpuOf, vmOf } from "./records";
import { Event, traceExit } from "./trace";
import { Exit, leaveGuest } from "./vcpu";
import { letVcpuGo } from "./vm";

/** Exception classes, ESR_ELx.EC (Arm ARM D24.2.40). */
export namespace Class {
  export const FP_ASIMD: u64 = 0x07;
  export const HVC64: u64 = 0x16;
  export const SMC64: u64 = 0x17;
  export const SVE: u64 = 0x19;
  export const INSTRUCTION_ABORT_LOWER: u64 = 0x20;
  export const INSTRUCTION_ABORT_SAME: u64 = 0x21;
  export const DATA_ABORT_LOWER: u64 = 0x24;
}

/** Exception class of a syndrome. */
export function classOf(esr: u64): u64 {
  return (esr >> 26) & 0x3f;
}

/** Fields of ESR_ELx for aborts. */
const ISS_S1PTW: u64 = 1 << 7;
const ISS_CM: u64 = 1 << 8;
export const ISS_WNR: u64 = 1 << 6;
const ISS_ISV: u64 = 1 << 24;
/** Fault status: type without level; translation and permission faults. */
const FSC: u64 = 0x3f;
const FSC_TYPE: u64 = 0x3c;
const FSC_TRANSLATION: u64 = 0x04;
const FSC_PERMISSION: u64 = 0x0c;

/** What the vectors do when the core returns to them: go on in the guest, or in the host. */
export const RESUME_HOST: u32 = 0;
export const RESUME_GUEST: u32 = 1;

const PAR_F: u64 = 1;
/** No input address. */
const NO_IPA: u64 = ~0;

/** Leaves the guest and answers the host's `__kvm_vcpu_run` with `code`. */
export function exitToHost(cpu: Cpu, vcpu: Vcpu, code: u64): u32 {
  const result = leaveGuest(cpu, vcpu, code);
  traceExit(cpu, Event.GUEST_EXIT, vcpu.hva, result, mrs_esr_el2());
  letVcpuGo(vcpu);
  setHostReg(cpu, 0, 0);
  setHostReg(cpu, 1, result);
  return RESUME_HOST;
}

/** True when HPFAR_EL2 holds the faulting address (Arm ARM D24.2.63: not for permission faults outside a table walk). */
function hpfarValid(esr: u64): bool {
  return (esr & ISS_S1PTW) != 0 || (esr & FSC_TYPE) != FSC_PERMISSION;
}

/** HPFAR_EL2 for the fault, by the guest's own stage 1 where hardware does not tell, or NO_IPA if that maps it no more. */
function faultHpfar(esr: u64, far: u64): u64 {
  if (hpfarValid(esr)) return mrs_hpfar_el2();
  const saved = mrs_par_el1();
  at_s1e1r(far);
  isb();
  const par = mrs_par_el1();
  msr_par_el1(saved);
  return (par & PAR_F) != 0 ? NO_IPA : (par & PTE_ADDRESS) >> 8;
}

/** What the access that faulted was, as FAULT_* bits. */
function faultKind(esr: u64): u64 {
  if (classOf(esr) == Class.INSTRUCTION_ABORT_LOWER) {
    return (esr & ISS_S1PTW) != 0 ? FAULT_PRESENT : FAULT_PRESENT | FAULT_EXECUTE;
  }
  const walk = (esr & ISS_S1PTW) != 0;
  const write = walk ? (esr & FSC_TYPE) == FSC_PERMISSION : (esr & ISS_WNR) != 0 && (esr & ISS_CM) == 0;
  return write ? FAULT_PRESENT | FAULT_WRITE : FAULT_PRESENT;
}

/** Tells the host of a fault: syndrome and addresses. */
function reportFault(vcpu: Vcpu, esr: u64, far: u64, hpfar: u64): void {
  host_write64(vcpu.pa + profile.faultEsrEl2, esr);
  host_write64(vcpu.pa + profile.faultFarEl2, far);
  host_write64(vcpu.pa + profile.faultHpfarEl2, hpfar);
}

/**
 * The syndrome of a write, made from that of another access to the same page: it asks the host for a page of its own
 * there, where it proposed one that it may only read.
 */
function writeSyndrome(esr: u64): u64 {
  return (esr & ~(((<u64>0x3f) << 26) | ISS_ISV)) | (Class.DATA_ABORT_LOWER << 26) | ISS_WNR;
}

/** What the host is told of a fault that was not resolved: what its own tables would have led to. */
export function syndromeFor(status: u32, esr: u64): u64 {
  if (status == Fill.READ_ONLY) return writeSyndrome(esr);
  if ((status & Fill.DENIED) != 0) return (esr & ~FSC) | FSC_PERMISSION | (status >> 3);
  return esr;
}

/** A stage 2 fault: mapped if the host proposes something suitable, else the host's to handle. */
function guestAbort(cpu: Cpu, vcpu: Vcpu, esr: u64): u32 {
  const far = mrs_far_el2();
  const hpfar = faultHpfar(esr, far);
  if (hpfar == NO_IPA) return RESUME_GUEST;
  const type = esr & FSC_TYPE;
  if (type == FSC_TRANSLATION || type == FSC_PERMISSION) {
    const ipa = (hpfar & ~0xf) << 8;
    const fault = faultKind(esr);
    let status = Fill.ABSENT;
    if (ipa != vcpu.mmioPage) status = fill(vmOf(vcpu), ipa, fault);
    if (status == Fill.MAPPED) return RESUME_GUEST;
    if (status == Fill.REFUSED) return exitToHost(cpu, vcpu, Exit.ILLEGAL);
    vcpu.fault = ipa | fault;
    reportFault(vcpu, syndromeFor(status, esr), far, hpfar);
  } else {
    reportFault(vcpu, esr, far, hpfar);
  }
  return exitToHost(cpu, vcpu, Exit.TRAP);
}

/** A synchronous exception of the guest. */
function guestSync(cpu: Cpu, vcpu: Vcpu): u32 {
  const esr = mrs_esr_el2();
  const kind = classOf(esr);
  if (kind == Class.DATA_ABORT_LOWER || kind == Class.INSTRUCTION_ABORT_LOWER)
    return guestAbort(cpu, vcpu, esr);
  if (kind == Class.FP_ASIMD || (kind == Class.SVE && vcpu.sveVq != 0)) {
    loadGuestFp(cpu, vcpu);
    return RESUME_GUEST;
  }
  host_write64(vcpu.pa + profile.faultEsrEl2, esr);
  return exitToHost(cpu, vcpu, Exit.TRAP);
}

/** A trap or interrupt taken from the guest that runs on `cpu`; `code` is one of `Exit`, by the vector. */
export function guestTrap(cpu: Cpu, code: u64): u32 {
  const vcpu = vcpuOf(cpu.running);
  if (code == Exit.TRAP) return guestSync(cpu, vcpu);
  return exitToHost(cpu, vcpu, code);
}
