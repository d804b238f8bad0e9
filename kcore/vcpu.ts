/**
 * Running a vCPU: what an entry changes, what an exit reveals.
 *
 * The host passes a vCPU's state in its struct kvm_vcpu, which stays in host memory: each value is fetched once and
 * sanitised, so that it can spoil the host's own VM but never reach EL2. The order of the steps follows
 * arch/arm64/kvm/hyp/nvhe/switch.c, whose behaviour the host expects.
 */

import { coreState } from "./bootinfo";
import { loadGuestDebug, saveGuestDebug } from "./debug";
import { loadGuestEl1, loadHostEl1, saveGuestEl1, saveHostEl1 } from "./el1";
import {
  exceptionPstate,
  IFLAG_DEBUG_DIRTY,
  IFLAG_EXCEPT_AA64_EL1_SYNC,
  IFLAG_EXCEPT_MASK,
  IFLAG_INCREMENT_PC,
  IFLAG_PENDING_EXCEPTION,
  PSTATE_A32_USER,
  PSTATE_EL0T,
  PSTATE_EL1H,
  PSTATE_EL1T,
  PSTATE_MODE,
  pcAfter,
  pstateAfter,
  syncVector,
} from "./exception";
import { CPTR_GUEST, hideSme, saveGuestFp, showSme } from "./fpsimd";
import { hostVttbr } from "./hostmap";
import {
  dsb_nsh,
  host_read_frame,
  host_read8,
  host_read32,
  host_read64,
  host_write_frame,
  host_write8,
  host_write64,
  isb,
  mrs_disr_el1,
  mrs_elr_el2,
  mrs_hcr_el2,
  mrs_mpidr_el1,
  mrs_pmblimitr_el1,
  mrs_pmscr_el1,
  mrs_pmuserenr_el0,
  mrs_sp_el0,
  mrs_spsr_el2,
  mrs_svcr,
  mrs_trblimitr_el1,
  mrs_trfcr_el1,
  mrs_vdisr_el2,
  msr_cnthctl_el2,
  msr_cptr_el2,
  msr_disr_el1,
  msr_elr_el2,
  msr_hcr_el2,
  msr_hcrx_el2,
  msr_hstr_el2,
  msr_mdcr_el2,
  msr_pmcntenclr_el0,
  msr_pmcntenset_el0,
  msr_pmscr_el1,
  msr_pmselr_el0,
  msr_pmuserenr_el0,
  msr_sp_el0,
  msr_spsr_el2,
  msr_trfcr_el1,
  msr_vbar_el2,
  msr_vdisr_el2,
  msr_vmpidr_el2,
  msr_vsesr_el2,
  msr_vtcr_el2,
  msr_vttbr_el2,
  psb_csync,
  tsb_csync,
} from "./machine";
import { Fill, fill } from "./memory";
import { loadGuestKeys, saveGuestKeys } from "./pauth";
import {
  Cpu,
  FEATURE_A32_EL0,
  FEATURE_HCX,
  FEATURE_PAUTH,
  FEATURE_PMU,
  FEATURE_RAS,
  FEATURE_SME,
  FEATURE_SPE,
  FEATURE_SVE,
  FEATURE_TRBE,
  guestFrame,
} from "./percpu";
import { profile } from "./profile";
import { HCR_API, HCR_APK, Vcpu, vmOf } from "./records";
import { loadGuestVgic, saveGuestVgic } from "./vgic";

/** Exit codes of `__kvm_vcpu_run` (asm/kvm_asm.h). */
export namespace Exit {
  export const IRQ: u64 = 0;
  export const SERROR: u64 = 1;
  export const TRAP: u64 = 2;
  /** Shown as KVM_EXIT_FAIL_ENTRY. */
  export const ILLEGAL: u64 = 3;
  /** Set beside the code when the exit also consumed an SError. */
  export const WITH_SERROR: u64 = 1 << 31;
}

/** Offsets in struct user_pt_regs. */
const REGS_SP: u64 = 248;
const REGS_PC: u64 = 256;
const REGS_PSTATE: u64 = 264;

const HCR_VM: u64 = 1 << 0;
const HCR_FMO: u64 = 1 << 3;
const HCR_IMO: u64 = 1 << 4;
const HCR_AMO: u64 = 1 << 5;
const HCR_VSE: u64 = 1 << 8;
const HCR_TSC: u64 = 1 << 19;
const HCR_RW: u64 = 1 << 31;
const HCR_ATA: u64 = 1 << 56;
const HCR_FWB_SHIFT: u64 = 46;
/**
 * HCR_EL2 fields of a guest that its host chooses: PTW, VF, VI, VSE, TWI, TWE, TID0, TID1, TID3, TPCP, TPU, TTLB, TVM,
 * TDZ, TRVM, TEA, APK, API, AT, TID4, TICAB, TOCU, TTLBIS, TTLBOS, TID5. Their effect ends with the guest. Left out are
 * TGE, HCD, E2H and NV* (they change what EL2 itself means); DC, DCT, CD, ID, MIOCNCE and FWB (they change the type of the
 * guest's memory, which is the core's to say, see `npt.ts`); EnSCXT, AMVOFFEN, FIEN and ATA (the core keeps no registers of
 * theirs apart).
 */
const HCR_HOST_CHOICE: u64 = 0x04d6_1320_5785_e1c4;
/**
 * Fields that every guest has, as every KVM guest does: FB and BSU, so that its TLB and cache maintenance holds on
 * whichever CPU it goes on; SWIO and TSW, for set/way operations reach everybody's lines; and traps of what the core does not
 * keep apart: CSSELR_EL1 (TID2), implementation defined registers (TIDCP, TACR), LORegions (TLOR), error records (TERR).
 */
const HCR_SHARED: u64 =
  (1 << 1) | (1 << 9) | (1 << 10) | (1 << 17) | (1 << 20) | (1 << 21) | (1 << 22) | (3 << 35);
const HCR_ALWAYS: u64 = HCR_VM | HCR_FMO | HCR_IMO | HCR_AMO | HCR_TSC | HCR_RW | HCR_SHARED;
/** HCR_EL2 while the host runs. */
export const HCR_HOST: u64 = HCR_VM | HCR_TSC | HCR_RW | HCR_APK | HCR_API | HCR_ATA;

/** MDCR_EL2 fields that the host chooses: HPMN, TPMCR, TPM, TDE, TDA, TDOSA, TDRA, TPMS, TTRF, TDCC. */
const MDCR_HOST_CHOICE: u64 = 0x0808_4f7f;
/** Always: guests have no statistical profiling, no trace, and their buffers never use the core's translation. */
const MDCR_ALWAYS: u64 = (1 << 14) | (1 << 19) | (1 << 11) | (1 << 10);
/** Trap of the breakpoint registers: always while they are the host's. */
const MDCR_TDA: u64 = 1 << 9;
/** HCRX_EL2 fields that the host chooses: MSCEn and TCR2En. FPMR, behind EnFPM, is not kept apart. */
const HCRX_HOST_CHOICE: u64 = (1 << 11) | (1 << 14);

/** Trap of AArch32 CP15 c15, which is implementation defined (HSTR_EL2.T15). */
const HSTR_GUEST: u64 = 1 << 15;
/** The guest reads the physical counter itself; its physical timer traps to the host (CNTHCTL_EL2.EL1PCTEN). */
const CNTHCTL_GUEST: u64 = 1;
export const CNTHCTL_HOST: u64 = 3;
/** Every PMU access from EL0 traps to EL2 rather than to EL1. */
const PMUSERENR_TRAP: u64 = 0xf;
const BUFFER_ENABLED: u64 = 1;

/** True when SPSR_EL2 `pstate` returns to EL0 or EL1 on this CPU without an illegal exception return. */
function isGuestPstate(cpu: Cpu, pstate: u64): bool {
  const mode = pstate & PSTATE_MODE;
  if (mode == PSTATE_A32_USER) return (cpu.features & FEATURE_A32_EL0) != 0;
  return mode == PSTATE_EL0T || mode == PSTATE_EL1T || mode == PSTATE_EL1H;
}

/** True when this CPU can run `vcpu` as it is: with SVE if the vCPU has it, and out of SME's streaming mode. */
function suits(cpu: Cpu, vcpu: Vcpu): bool {
  if (vcpu.sveVq != 0 && (cpu.features & FEATURE_SVE) == 0) return false;
  return (cpu.features & FEATURE_SME) == 0 || mrs_svcr() == 0;
}

/** HCR_EL2 for a guest of which the host wants `chosen`. */
function guestHcr(vcpu: Vcpu, chosen: u64): u64 {
  return (chosen & HCR_HOST_CHOICE) | HCR_ALWAYS | vcpu.hcr | (coreState.forceWriteBack << HCR_FWB_SHIFT);
}

/** MDCR_EL2 for a guest of which the host wants `chosen`. */
function guestMdcr(cpu: Cpu, chosen: u64): u64 {
  return (chosen & MDCR_HOST_CHOICE) | MDCR_ALWAYS | (cpu.debugLoaded == 0 ? MDCR_TDA : 0);
}

/** Stops the profiling and trace buffers of the host, which would write through the guest's translation. */
function stopBuffers(cpu: Cpu): void {
  if ((cpu.features & FEATURE_SPE) != 0) {
    cpu.pmscrEl1 = 0;
    if ((mrs_pmblimitr_el1() & BUFFER_ENABLED) != 0) {
      cpu.pmscrEl1 = mrs_pmscr_el1();
      msr_pmscr_el1(0);
      isb();
      psb_csync();
    }
  }
  if ((cpu.features & FEATURE_TRBE) != 0) {
    cpu.trfcrEl1 = 0;
    if ((mrs_trblimitr_el1() & BUFFER_ENABLED) != 0) {
      cpu.trfcrEl1 = mrs_trfcr_el1();
      msr_trfcr_el1(0);
      isb();
      tsb_csync();
    }
  }
}

/** Lets the host's buffers go on. */
function restartBuffers(cpu: Cpu): void {
  if ((cpu.features & FEATURE_SPE) != 0 && cpu.pmscrEl1 != 0) {
    isb();
    msr_pmscr_el1(cpu.pmscrEl1);
  }
  if ((cpu.features & FEATURE_TRBE) != 0 && cpu.trfcrEl1 != 0) msr_trfcr_el1(cpu.trfcrEl1);
}

/** Gives the PMU to the guest: its events count, its EL0 accesses trap. */
function loadGuestPmu(cpu: Cpu, context: u64): void {
  const host = host_read32(context + profile.pmuEventsHost);
  const guest = host_read32(context + profile.pmuEventsGuest);
  if (host != 0) msr_pmcntenclr_el0(host);
  if (guest != 0) msr_pmcntenset_el0(guest);
  cpu.pmuEvents = <u64>host | ((<u64>guest) << 32);
  msr_pmselr_el0(0);
  cpu.pmuserenrEl0 = mrs_pmuserenr_el0();
  msr_pmuserenr_el0(PMUSERENR_TRAP);
}

/** Gives the PMU back to the host. */
function loadHostPmu(cpu: Cpu): void {
  const host = cpu.pmuEvents & 0xffff_ffff;
  const guest = cpu.pmuEvents >> 32;
  if (guest != 0) msr_pmcntenclr_el0(guest);
  if (host != 0) msr_pmcntenset_el0(host);
  msr_pmuserenr_el0(cpu.pmuserenrEl0);
}

/**
 * Carries out what the host's emulation left to do: an exception to inject, or an instruction to skip. Works on the
 * context in host memory.
 */
export function adjustPc(context: u64): void {
  const flags = host_read8(context + profile.iflags);
  if ((flags & (IFLAG_PENDING_EXCEPTION | IFLAG_INCREMENT_PC)) == 0) return;
  const regs = context + profile.regs;
  const pc = host_read64(regs + REGS_PC);
  const pstate = host_read64(regs + REGS_PSTATE);
  if ((flags & IFLAG_PENDING_EXCEPTION) != 0) {
    if ((flags & IFLAG_EXCEPT_MASK) == IFLAG_EXCEPT_AA64_EL1_SYNC) {
      host_write64(context + profile.elrEl1, pc);
      host_write64(context + profile.spsrEl1, pstate);
      host_write64(regs + REGS_PC, syncVector(host_read64(context + profile.vbarEl1), pstate));
      host_write64(regs + REGS_PSTATE, exceptionPstate(pstate, host_read64(context + profile.sctlrEl1)));
    }
  } else {
    host_write64(regs + REGS_PC, pcAfter(pc, pstate, host_read64(context + profile.faultEsrEl2)));
    host_write64(regs + REGS_PSTATE, pstateAfter(pstate));
  }
  host_write8(
    context + profile.iflags,
    flags & ~(IFLAG_PENDING_EXCEPTION | IFLAG_INCREMENT_PC | IFLAG_EXCEPT_MASK),
  );
}

/**
 * Looks once more at the stage 2 fault that the host was asked to resolve. The result is one of `Fill`; MAPPED and
 * ABSENT let the vCPU run.
 */
export function resolveFault(vcpu: Vcpu): u32 {
  const fault = vcpu.fault;
  if (fault == 0) return Fill.MAPPED;
  const ipa = fault & ~0xfff;
  if ((host_read8(vcpu.pa + profile.iflags) & (IFLAG_PENDING_EXCEPTION | IFLAG_INCREMENT_PC)) != 0) {
    vcpu.fault = 0;
    vcpu.mmioPage = ipa;
    return Fill.MAPPED;
  }
  const status = fill(vmOf(vcpu), ipa, fault);
  if (status != Fill.READ_ONLY && (status & Fill.DENIED) == 0) vcpu.fault = 0;
  return status;
}

/**
 * Exchanges the host's context for that of `vcpu`, which is held. False, with the host's context untouched, when the
 * host asks for a processor state that is none of a guest's, or for one that this CPU does not have.
 */
export function enterGuest(cpu: Cpu, vcpu: Vcpu): bool {
  const context = vcpu.pa;
  adjustPc(context);
  const regs = context + profile.regs;
  const pstate = host_read64(regs + REGS_PSTATE);
  if (!isGuestPstate(cpu, pstate) || !suits(cpu, vcpu)) return false;

  cpu.elrEl2 = mrs_elr_el2();
  cpu.spsrEl2 = mrs_spsr_el2();
  cpu.spEl0 = mrs_sp_el0();
  saveHostEl1(cpu);
  stopBuffers(cpu);
  dsb_nsh();

  loadGuestEl1(cpu, context);
  host_read_frame(guestFrame(cpu), regs);
  msr_sp_el0(host_read64(regs + REGS_SP));
  msr_elr_el2(host_read64(regs + REGS_PC));
  msr_spsr_el2(pstate);
  const hcr = guestHcr(vcpu, host_read64(context + profile.hcrEl2));
  if ((cpu.features & FEATURE_RAS) != 0) {
    msr_vdisr_el2(host_read64(context + profile.disrEl1));
    if ((hcr & HCR_VSE) != 0) msr_vsesr_el2(host_read64(context + profile.vsesrEl2));
  }
  cpu.guestHcr = hcr;
  if ((cpu.features & FEATURE_PAUTH) != 0 && (hcr & (HCR_API | HCR_APK)) != 0) loadGuestKeys(cpu, context);
  msr_vtcr_el2(vcpu.vtcr);
  msr_vttbr_el2(vcpu.vttbr);
  msr_hcr_el2(hcr);
  msr_hstr_el2(HSTR_GUEST);
  if ((host_read8(context + profile.iflags) & IFLAG_DEBUG_DIRTY) != 0) loadGuestDebug(cpu, vcpu);
  msr_mdcr_el2(guestMdcr(cpu, host_read64(context + profile.mdcrEl2)));
  if ((cpu.features & FEATURE_HCX) != 0) {
    msr_hcrx_el2(host_read64(context + profile.hcrxEl2) & cpu.hostHcrx & HCRX_HOST_CHOICE);
  }
  msr_cptr_el2(CPTR_GUEST);
  if ((cpu.features & FEATURE_SME) != 0) hideSme(cpu);
  msr_cnthctl_el2(CNTHCTL_GUEST);
  msr_vbar_el2(1);
  if ((cpu.features & FEATURE_PMU) != 0) loadGuestPmu(cpu, context);
  loadGuestVgic(cpu, context);
  cpu.running = changetype<usize>(vcpu);
  return true;
}

/** Exchanges the guest's context for the host's. Returns the exit code for the host, made from `code`. */
export function leaveGuest(cpu: Cpu, vcpu: Vcpu, code: u64): u64 {
  const context = vcpu.pa;
  const regs = context + profile.regs;
  host_write_frame(regs, guestFrame(cpu));
  host_write64(regs + REGS_SP, mrs_sp_el0());
  host_write64(regs + REGS_PC, mrs_elr_el2());
  host_write64(regs + REGS_PSTATE, mrs_spsr_el2());
  saveGuestEl1(cpu, context);
  let result = code;
  if ((cpu.features & FEATURE_RAS) != 0) {
    host_write64(context + profile.disrEl1, mrs_vdisr_el2());
    const disr = mrs_disr_el1();
    if (disr != 0) {
      host_write64(context + profile.faultDisrEl1, disr);
      msr_disr_el1(0);
      result |= Exit.WITH_SERROR;
    }
  }
  if (cpu.fpLoaded != 0) saveGuestFp(cpu, vcpu);
  if (cpu.debugLoaded != 0) {
    saveGuestDebug(cpu, vcpu);
    host_write8(context + profile.iflags, host_read8(context + profile.iflags) & ~IFLAG_DEBUG_DIRTY);
  }
  saveGuestVgic(cpu, context);
  if ((cpu.features & FEATURE_PMU) != 0) loadHostPmu(cpu);
  const hcr = cpu.guestHcr;
  if ((hcr & HCR_VSE) != 0) {
    const pending = mrs_hcr_el2() & HCR_VSE;
    host_write64(context + profile.hcrEl2, (host_read64(context + profile.hcrEl2) & ~HCR_VSE) | pending);
  }
  if ((cpu.features & FEATURE_PAUTH) != 0 && (hcr & (HCR_API | HCR_APK)) != 0) saveGuestKeys(cpu, context);
  dsb_nsh();

  msr_cnthctl_el2(CNTHCTL_HOST);
  msr_cptr_el2(cpu.hostCptr);
  if ((cpu.features & FEATURE_SME) != 0) showSme(cpu);
  if ((cpu.features & FEATURE_HCX) != 0) msr_hcrx_el2(cpu.hostHcrx);
  msr_mdcr_el2(cpu.hostMdcr);
  msr_hstr_el2(0);
  msr_hcr_el2(HCR_HOST);
  msr_vttbr_el2(hostVttbr());
  msr_vtcr_el2(coreState.hostVtcr);
  msr_vbar_el2(0);
  loadHostEl1(cpu);
  msr_vmpidr_el2(mrs_mpidr_el1());
  msr_sp_el0(cpu.spEl0);
  msr_elr_el2(cpu.elrEl2);
  msr_spsr_el2(cpu.spsrEl2);
  restartBuffers(cpu);
  cpu.running = 0;
  return result;
}
