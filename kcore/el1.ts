/**
 * The registers of the EL1&0 regime that host and guests share, exchanged at every entry and exit (the set of
 * arch/arm64/kvm/hyp/include/hyp/sysreg-sr.h). The host's wait in its per-CPU area, a guest's in its vCPU context.
 */
import {
  host_read64,
  host_write64,
  mrs_afsr0_el1,
  mrs_afsr1_el1,
  mrs_amair_el1,
  mrs_cntkctl_el1,
  mrs_contextidr_el1,
  mrs_cpacr_el1,
  mrs_elr_el1,
  mrs_esr_el1,
  mrs_far_el1,
  mrs_mair_el1,
  mrs_mdscr_el1,
  mrs_par_el1,
  mrs_pir_el1,
  mrs_pire0_el1,
  mrs_por_el0,
  mrs_por_el1,
  mrs_sctlr_el1,
  mrs_sp_el1,
  mrs_spsr_el1,
  mrs_tcr_el1,
  mrs_tcr2_el1,
  mrs_tpidr_el0,
  mrs_tpidr_el1,
  mrs_tpidrro_el0,
  mrs_ttbr0_el1,
  mrs_ttbr1_el1,
  mrs_vbar_el1,
  msr_afsr0_el1,
  msr_afsr1_el1,
  msr_amair_el1,
  msr_cntkctl_el1,
  msr_contextidr_el1,
  msr_cpacr_el1,
  msr_elr_el1,
  msr_esr_el1,
  msr_far_el1,
  msr_mair_el1,
  msr_mdscr_el1,
  msr_par_el1,
  msr_pir_el1,
  msr_pire0_el1,
  msr_por_el0,
  msr_por_el1,
  msr_sctlr_el1,
  msr_sp_el1,
  msr_spsr_el1,
  msr_tcr_el1,
  msr_tcr2_el1,
  msr_tpidr_el0,
  msr_tpidr_el1,
  msr_tpidrro_el0,
  msr_ttbr0_el1,
  msr_ttbr1_el1,
  msr_vbar_el1,
  msr_vmpidr_el2,
} from "./machine";
import { Cpu, FEATURE_S1PIE, FEATURE_S1POE, FEATURE_TCR2 } from "./percpu";
import { profile } from "./profile";

/** Puts the host's registers away. */
export function saveHostEl1(cpu: Cpu): void {
  cpu.sctlrEl1 = mrs_sctlr_el1();
  cpu.cpacrEl1 = mrs_cpacr_el1();
  cpu.ttbr0El1 = mrs_ttbr0_el1();
  cpu.ttbr1El1 = mrs_ttbr1_el1();
  cpu.tcrEl1 = mrs_tcr_el1();
  cpu.esrEl1 = mrs_esr_el1();
  cpu.afsr0El1 = mrs_afsr0_el1();
  cpu.afsr1El1 = mrs_afsr1_el1();
  cpu.farEl1 = mrs_far_el1();
  cpu.mairEl1 = mrs_mair_el1();
  cpu.vbarEl1 = mrs_vbar_el1();
  cpu.contextidrEl1 = mrs_contextidr_el1();
  cpu.amairEl1 = mrs_amair_el1();
  cpu.cntkctlEl1 = mrs_cntkctl_el1();
  cpu.parEl1 = mrs_par_el1();
  cpu.tpidrEl1 = mrs_tpidr_el1();
  cpu.spEl1 = mrs_sp_el1();
  cpu.elrEl1 = mrs_elr_el1();
  cpu.spsrEl1 = mrs_spsr_el1();
  cpu.mdscrEl1 = mrs_mdscr_el1();
  cpu.tpidrEl0 = mrs_tpidr_el0();
  cpu.tpidrroEl0 = mrs_tpidrro_el0();
  if ((cpu.features & FEATURE_TCR2) != 0) saveHostExtensions(cpu);
}

/** Brings the host's registers back. */
export function loadHostEl1(cpu: Cpu): void {
  msr_sctlr_el1(cpu.sctlrEl1);
  msr_cpacr_el1(cpu.cpacrEl1);
  msr_ttbr0_el1(cpu.ttbr0El1);
  msr_ttbr1_el1(cpu.ttbr1El1);
  msr_tcr_el1(cpu.tcrEl1);
  msr_esr_el1(cpu.esrEl1);
  msr_afsr0_el1(cpu.afsr0El1);
  msr_afsr1_el1(cpu.afsr1El1);
  msr_far_el1(cpu.farEl1);
  msr_mair_el1(cpu.mairEl1);
  msr_vbar_el1(cpu.vbarEl1);
  msr_contextidr_el1(cpu.contextidrEl1);
  msr_amair_el1(cpu.amairEl1);
  msr_cntkctl_el1(cpu.cntkctlEl1);
  msr_par_el1(cpu.parEl1);
  msr_tpidr_el1(cpu.tpidrEl1);
  msr_sp_el1(cpu.spEl1);
  msr_elr_el1(cpu.elrEl1);
  msr_spsr_el1(cpu.spsrEl1);
  msr_mdscr_el1(cpu.mdscrEl1);
  msr_tpidr_el0(cpu.tpidrEl0);
  msr_tpidrro_el0(cpu.tpidrroEl0);
  if ((cpu.features & FEATURE_TCR2) != 0) loadHostExtensions(cpu);
}

/** Writes a guest's registers to its context at `context`, in host memory. */
export function saveGuestEl1(cpu: Cpu, context: u64): void {
  host_write64(context + profile.sctlrEl1, mrs_sctlr_el1());
  host_write64(context + profile.cpacrEl1, mrs_cpacr_el1());
  host_write64(context + profile.ttbr0El1, mrs_ttbr0_el1());
  host_write64(context + profile.ttbr1El1, mrs_ttbr1_el1());
  host_write64(context + profile.tcrEl1, mrs_tcr_el1());
  host_write64(context + profile.esrEl1, mrs_esr_el1());
  host_write64(context + profile.afsr0El1, mrs_afsr0_el1());
  host_write64(context + profile.afsr1El1, mrs_afsr1_el1());
  host_write64(context + profile.farEl1, mrs_far_el1());
  host_write64(context + profile.mairEl1, mrs_mair_el1());
  host_write64(context + profile.vbarEl1, mrs_vbar_el1());
  host_write64(context + profile.contextidrEl1, mrs_contextidr_el1());
  host_write64(context + profile.amairEl1, mrs_amair_el1());
  host_write64(context + profile.cntkctlEl1, mrs_cntkctl_el1());
  host_write64(context + profile.parEl1, mrs_par_el1());
  host_write64(context + profile.tpidrEl1, mrs_tpidr_el1());
  host_write64(context + profile.spEl1, mrs_sp_el1());
  host_write64(context + profile.elrEl1, mrs_elr_el1());
  host_write64(context + profile.spsrEl1, mrs_spsr_el1());
  host_write64(context + profile.mdscrEl1, mrs_mdscr_el1());
  host_write64(context + profile.tpidrEl0, mrs_tpidr_el0());
  host_write64(context + profile.tpidrroEl0, mrs_tpidrro_el0());
  if ((cpu.features & FEATURE_TCR2) != 0) saveGuestExtensions(cpu, context);
}

/** Loads a guest's registers from its context at `context`, in host memory. */
export function loadGuestEl1(cpu: Cpu, context: u64): void {
  msr_vmpidr_el2(host_read64(context + profile.mpidrEl1));
  msr_sctlr_el1(host_read64(context + profile.sctlrEl1));
  msr_cpacr_el1(host_read64(context + profile.cpacrEl1));
  msr_ttbr0_el1(host_read64(context + profile.ttbr0El1));
  msr_ttbr1_el1(host_read64(context + profile.ttbr1El1));
  msr_tcr_el1(host_read64(context + profile.tcrEl1));
  msr_esr_el1(host_read64(context + profile.esrEl1));
  msr_afsr0_el1(host_read64(context + profile.afsr0El1));
  msr_afsr1_el1(host_read64(context + profile.afsr1El1));
  msr_far_el1(host_read64(context + profile.farEl1));
  msr_mair_el1(host_read64(context + profile.mairEl1));
  msr_vbar_el1(host_read64(context + profile.vbarEl1));
  msr_contextidr_el1(host_read64(context + profile.contextidrEl1));
  msr_amair_el1(host_read64(context + profile.amairEl1));
  msr_cntkctl_el1(host_read64(context + profile.cntkctlEl1));
  msr_par_el1(host_read64(context + profile.parEl1));
  msr_tpidr_el1(host_read64(context + profile.tpidrEl1));
  msr_sp_el1(host_read64(context + profile.spEl1));
  msr_elr_el1(host_read64(context + profile.elrEl1));
  msr_spsr_el1(host_read64(context + profile.spsrEl1));
  msr_mdscr_el1(host_read64(context + profile.mdscrEl1));
  msr_tpidr_el0(host_read64(context + profile.tpidrEl0));
  msr_tpidrro_el0(host_read64(context + profile.tpidrroEl0));
  if ((cpu.features & FEATURE_TCR2) != 0) loadGuestExtensions(cpu, context);
}

// Registers of FEAT_TCR2, FEAT_S1PIE and FEAT_S1POE.

function saveHostExtensions(cpu: Cpu): void {
  cpu.tcr2El1 = mrs_tcr2_el1();
  if ((cpu.features & FEATURE_S1PIE) != 0) {
    cpu.pirEl1 = mrs_pir_el1();
    cpu.pire0El1 = mrs_pire0_el1();
  }
  if ((cpu.features & FEATURE_S1POE) != 0) {
    cpu.porEl1 = mrs_por_el1();
    cpu.porEl0 = mrs_por_el0();
  }
}

function loadHostExtensions(cpu: Cpu): void {
  msr_tcr2_el1(cpu.tcr2El1);
  if ((cpu.features & FEATURE_S1PIE) != 0) {
    msr_pir_el1(cpu.pirEl1);
    msr_pire0_el1(cpu.pire0El1);
  }
  if ((cpu.features & FEATURE_S1POE) != 0) {
    msr_por_el1(cpu.porEl1);
    msr_por_el0(cpu.porEl0);
  }
}

function saveGuestExtensions(cpu: Cpu, context: u64): void {
  host_write64(context + profile.tcr2El1, mrs_tcr2_el1());
  if ((cpu.features & FEATURE_S1PIE) != 0) {
    host_write64(context + profile.pirEl1, mrs_pir_el1());
    host_write64(context + profile.pire0El1, mrs_pire0_el1());
  }
  if ((cpu.features & FEATURE_S1POE) != 0) {
    host_write64(context + profile.porEl1, mrs_por_el1());
    host_write64(context + profile.porEl0, mrs_por_el0());
  }
}

function loadGuestExtensions(cpu: Cpu, context: u64): void {
  msr_tcr2_el1(host_read64(context + profile.tcr2El1));
  if ((cpu.features & FEATURE_S1PIE) != 0) {
    msr_pir_el1(host_read64(context + profile.pirEl1));
    msr_pire0_el1(host_read64(context + profile.pire0El1));
  }
  if ((cpu.features & FEATURE_S1POE) != 0) {
    msr_por_el1(host_read64(context + profile.porEl1));
    msr_por_el0(host_read64(context + profile.porEl0));
  }
}
