/**
 * FP/SIMD and SVE registers: exchanged when a guest first uses them after an entry, and back at the exit.
 *
 * The host's FP/SIMD registers come back as they were, so that an exit reveals nothing of the guest's. Its SVE state
 * proper needs no saving: the host kernel has saved and dropped it before it runs a vCPU (kvm_arch_vcpu_load_fp in
 * arch/arm64/kvm/fpsimd.c).
 */
import { HOST_FP } from "./layout";
import {
  fp_load,
  fp_load_host,
  fp_save,
  fp_save_host,
  host_read64,
  host_write64,
  isb,
  mrs_smpri_el1,
  mrs_tpidr2_el0,
  mrs_zcr_el1,
  msr_cptr_el2,
  msr_smpri_el1,
  msr_tpidr2_el0,
  msr_zcr_el1,
  msr_zcr_el2,
  sve_load_host,
  sve_save_host,
} from "./machine";
import { Cpu } from "./percpu";
import { profile } from "./profile";
import { Vcpu } from "./records";

/** CPTR_EL2 without VHE: RES1 bits; traps of SVE, FP/SIMD, SME, trace and activity monitor registers. */
export const CPTR_RES1: u64 = 0x32ff & ~(1 << 12);
export const CPTR_TZ: u64 = 1 << 8;
export const CPTR_TFP: u64 = 1 << 10;
export const CPTR_TSM: u64 = 1 << 12;
export const CPTR_TTA: u64 = 1 << 20;
export const CPTR_TAM: u64 = 1 << 30;
/** CPTR_EL2 of a guest that has not used FP/SIMD since its entry. */
export const CPTR_GUEST: u64 = CPTR_RES1 | CPTR_TZ | CPTR_TFP | CPTR_TSM | CPTR_TTA | CPTR_TAM;
/** ZCR_EL2 that allows every vector length the CPU has. */
export const ZCR_ALL: u64 = 0xf;

const FPSR: u64 = 512;

/**
 * Puts the host's registers of SME away that CPTR_EL2 does not trap: a guest finds zeroes there, and what it leaves goes.
 * Fine-grained traps would do, but not every CPU with SME has them (QEMU's do not).
 */
export function hideSme(cpu: Cpu): void {
  cpu.smpriEl1 = mrs_smpri_el1();
  cpu.tpidr2El0 = mrs_tpidr2_el0();
  msr_smpri_el1(0);
  msr_tpidr2_el0(0);
}

/** Brings the host's registers of SME back. */
export function showSme(cpu: Cpu): void {
  msr_smpri_el1(cpu.smpriEl1);
  msr_tpidr2_el0(cpu.tpidr2El0);
}

/** Answers a guest's first use: puts the host's registers away, loads the guest's and lifts the trap. */
export function loadGuestFp(cpu: Cpu, vcpu: Vcpu): void {
  const image = vcpu.pa + profile.fpRegs;
  const sve = vcpu.sveVq != 0;
  msr_cptr_el2(CPTR_GUEST & ~CPTR_TFP & ~(sve ? CPTR_TZ : 0));
  isb();
  fp_save(changetype<usize>(cpu) + HOST_FP);
  if (sve) {
    cpu.zcrEl1 = mrs_zcr_el1();
    msr_zcr_el2(vcpu.sveVq - 1);
    isb();
    sve_load_host(vcpu.svePa, image + FPSR);
    msr_zcr_el1(host_read64(vcpu.pa + profile.zcrEl1));
  } else {
    fp_load_host(image);
  }
  cpu.fpLoaded = 1;
}

/** Writes the guest's registers, which are loaded, to its context, and brings the host's back. */
export function saveGuestFp(cpu: Cpu, vcpu: Vcpu): void {
  const image = vcpu.pa + profile.fpRegs;
  if (vcpu.sveVq != 0) {
    host_write64(vcpu.pa + profile.zcrEl1, mrs_zcr_el1());
    msr_zcr_el2(vcpu.sveVq - 1);
    isb();
    sve_save_host(vcpu.svePa, image + FPSR);
    msr_zcr_el1(cpu.zcrEl1);
    msr_zcr_el2(ZCR_ALL);
    isb();
  } else {
    fp_save_host(image);
  }
  fp_load(changetype<usize>(cpu) + HOST_FP);
  cpu.fpLoaded = 0;
}
