/**
 * Start of the core on the first CPU, and of every CPU: checks what the boot tool says, gives each principal its
 * memory, and sets the EL2 registers for the host (the values of arch/arm64/include/asm/el2_setup.h).
 */

import { bootInfo, coreState } from "./bootinfo";
import { CPTR_RES1, CPTR_TSM, CPTR_TZ, ZCR_ALL } from "./fpsimd";
import { hostVttbr } from "./hostmap";
import { MAX_PIN_PAGES } from "./hostmem";
import { MAX_CPUS, MAX_VMS, PROFILE } from "./layout";
import { acquire, LOCK_PSCI, release } from "./lock";
import {
  dsb_ish,
  dsb_nsh,
  ic_iallu,
  isb,
  mrs_icc_sre_el2,
  mrs_ich_vtr_el2,
  mrs_id_aa64dfr0_el1,
  mrs_id_aa64isar1_el1,
  mrs_id_aa64isar2_el1,
  mrs_id_aa64mmfr0_el1,
  mrs_id_aa64mmfr1_el1,
  mrs_id_aa64mmfr2_el1,
  mrs_id_aa64mmfr3_el1,
  mrs_id_aa64pfr0_el1,
  mrs_id_aa64pfr1_el1,
  mrs_midr_el1,
  mrs_mpidr_el1,
  mrs_pmbidr_el1,
  mrs_pmcr_el0,
  mrs_trbidr_el1,
  msr_cnthctl_el2,
  msr_cntvoff_el2,
  msr_cptr_el2,
  msr_elr_el2,
  msr_hafgrtr_el2,
  msr_hcr_el2,
  msr_hcrx_el2,
  msr_hdfgrtr_el2,
  msr_hdfgwtr_el2,
  msr_hfgitr_el2,
  msr_hfgrtr_el2,
  msr_hfgwtr_el2,
  msr_hstr_el2,
  msr_icc_sre_el2,
  msr_ich_hcr_el2,
  msr_lorc_el1,
  msr_mdcr_el2,
  msr_pmscr_el2,
  msr_sctlr_el1,
  msr_smcr_el2,
  msr_spsr_el2,
  msr_vbar_el2,
  msr_vmpidr_el2,
  msr_vpidr_el2,
  msr_vtcr_el2,
  msr_vttbr_el2,
  msr_zcr_el2,
  pt_zero,
  tlbi_alle1is,
} from "./machine";
import {
  Cpu,
  FEATURE_A32_EL0,
  FEATURE_AMU,
  FEATURE_FGT,
  FEATURE_FWB,
  FEATURE_HCX,
  FEATURE_PAUTH,
  FEATURE_PMU,
  FEATURE_RAS,
  FEATURE_S1PIE,
  FEATURE_S1POE,
  FEATURE_SME,
  FEATURE_SPE,
  FEATURE_SVE,
  FEATURE_TCR2,
  FEATURE_TRBE,
  setHostReg,
} from "./percpu";
import { vtcrFor } from "./pgtable";
import { poolInit } from "./pool";
import { Profile, profile } from "./profile";
import { OWNER_CORE, OWNER_HOST, s2pageIndex, setOwner } from "./s2page";
import { Event, Panic, panic, trace } from "./trace";
import { CNTHCTL_HOST, HCR_HOST } from "./vcpu";

/** SPSR_EL2 with which the host starts: EL1h, all interrupts masked. */
const PSTATE_HOST: u64 = 0x3c5;
/** SCTLR_EL1 with which the host starts: translation and caches off (asm/sysreg.h INIT_SCTLR_EL1_MMU_OFF). */
const SCTLR_EL1_OFF: u64 = 0x30d0_0800;
const ICC_SRE_EL2_ON: u64 = 0xf;
/** HCRX_EL2 for the host: MSCEn, TCR2En, EnFPM. */
const HCRX_HOST: u64 = (1 << 11) | (1 << 14) | (1 << 22);
const SMCR_ALL: u64 = (1 << 31) | 0xf;
/** PMBIDR_EL1.P, TRBIDR_EL1.P: firmware keeps the profiling or trace buffer, so that its registers trap to EL3. */
const BUFFER_DENIED: u64 = 1 << 4;

/** Field of an ID register. */
function idField(register: u64, shift: u64): u64 {
  return (register >> shift) & 15;
}

/** Physical address bits by ID_AA64MMFR0_EL1.PARange, at most 48; 0 for ranges the core has no root shape for. */
function physicalBits(range: u64): u64 {
  if (range == 0) return 32;
  if (range == 1) return 36;
  if (range == 2) return 40;
  if (range == 4) return 44;
  return range >= 5 ? 48 : 0;
}

/** The most table pages: so few that all their entries together never fill the count of one page in the owner table. */
const MAX_POOL_PAGES: u64 = 1 << 30;

/** True when `[base, base + pages)` lies inside the core's memory. */
function inCore(base: u64, pages: u64): bool {
  const first = (base - bootInfo.coreBase) >> 12;
  return (base & 0xfff) == 0 && first < bootInfo.corePages && pages <= bootInfo.corePages - first;
}

/** True when the boot tool's information makes sense. */
function checkBootInfo(): bool {
  const info = bootInfo;
  const ramEnd = info.ramBase + (info.ramPages << 12);
  const rootPages = <u64>MAX_VMS * 2;
  const tablePages = (info.ramPages + 511) >> 9;
  return (
    info.cpus >= 1 &&
    info.cpus <= MAX_CPUS &&
    (info.ramBase & 0xfff) == 0 &&
    info.ramBase >> 48 == 0 &&
    info.ramPages >> 36 == 0 &&
    ramEnd >> 48 == 0 &&
    (info.coreBase & 0x1f_ffff) == 0 &&
    (info.corePages & 511) == 0 &&
    info.coreBase >= info.ramBase &&
    (info.coreBase - info.ramBase) >> 12 <= info.ramPages &&
    info.corePages <= info.ramPages - ((info.coreBase - info.ramBase) >> 12) &&
    info.rootsBase != 0 &&
    (info.rootsBase & 0x1f_ffff) == 0 &&
    inCore(info.rootsBase, rootPages) &&
    inCore(info.s2pageBase, tablePages) &&
    inCore(info.poolBase, info.poolPages) &&
    info.poolPages <= MAX_POOL_PAGES &&
    info.rootsBase + (rootPages << 12) <= info.s2pageBase &&
    info.s2pageBase + (tablePages << 12) <= info.poolBase &&
    info.privateVms <= 1 &&
    checkProfile()
  );
}

/** True when no field of the profile leads out of its structure, by the size of the largest member. */
function checkProfile(): bool {
  const limit = MAX_PIN_PAGES << 11;
  let sane =
    profile.vcpuSize <= limit &&
    profile.kvmSize <= limit &&
    profile.vcpuSize >= 1024 &&
    profile.kvmSize >= 1024 &&
    ((profile.vcpuSize | profile.kvmSize) & 7) == 0;
  for (let at = offsetof<Profile>("createdVcpus"); at < offsetof<Profile>("dbgBcr"); at += 8) {
    sane = sane && load<u64>(PROFILE + at) <= profile.kvmSize - 64;
  }
  for (let at = offsetof<Profile>("dbgBcr"); at < offsetof<Profile>("vcpuKvm"); at += 8) {
    sane = sane && load<u64>(PROFILE + at) <= 512;
  }
  for (let at = offsetof<Profile>("vcpuKvm"); at < offsetof<Profile>(); at += 8) {
    sane = sane && load<u64>(PROFILE + at) <= profile.vcpuSize - 640;
  }
  return sane;
}

/** Divides RAM between the core and the host: nothing is mapped yet. */
function divideMemory(): void {
  for (let i: u64 = 0; i < bootInfo.ramPages; i++) setOwner(i, OWNER_HOST, 0);
  const first = s2pageIndex(bootInfo.coreBase);
  for (let i: u64 = 0; i < bootInfo.corePages; i++) setOwner(first + i, OWNER_CORE, 0);
  for (let i: u64 = 0; i < <u64>MAX_VMS * 2; i++) pt_zero(bootInfo.rootsBase + (i << 12));
  poolInit();
}

/** True when this CPU has FEAT_S2FWB. */
function hasForceWriteBack(): bool {
  return idField(mrs_id_aa64mmfr2_el1(), 40) != 0;
}

/** Finds out what this CPU has. */
function detect(cpu: Cpu): void {
  const pfr0 = mrs_id_aa64pfr0_el1();
  const dfr0 = mrs_id_aa64dfr0_el1();
  const mmfr1 = mrs_id_aa64mmfr1_el1();
  const mmfr3 = mrs_id_aa64mmfr3_el1();
  const isar1 = mrs_id_aa64isar1_el1();
  const isar2 = mrs_id_aa64isar2_el1();
  const pmu = idField(dfr0, 8);
  let features: u64 = 0;
  if (idField(pfr0, 32) != 0) features |= FEATURE_SVE;
  if (idField(pfr0, 28) != 0) features |= FEATURE_RAS;
  if (idField(pfr0, 0) == 2) features |= FEATURE_A32_EL0;
  if (idField(pfr0, 44) != 0) features |= FEATURE_AMU;
  if (idField(mrs_id_aa64pfr1_el1(), 24) != 0) features |= FEATURE_SME;
  if (pmu != 0 && pmu != 15) features |= FEATURE_PMU;
  if (idField(dfr0, 32) != 0 && (mrs_pmbidr_el1() & BUFFER_DENIED) == 0) features |= FEATURE_SPE;
  if (idField(dfr0, 44) != 0 && (mrs_trbidr_el1() & BUFFER_DENIED) == 0) features |= FEATURE_TRBE;
  if (idField(mmfr1, 40) != 0) features |= FEATURE_HCX;
  if (hasForceWriteBack()) features |= FEATURE_FWB;
  if (idField(mrs_id_aa64mmfr0_el1(), 56) != 0) features |= FEATURE_FGT;
  if (idField(mmfr3, 0) != 0) features |= FEATURE_TCR2;
  if (idField(mmfr3, 8) != 0) features |= FEATURE_S1PIE;
  if (idField(mmfr3, 16) != 0) features |= FEATURE_S1POE;
  if (((isar1 >> 4) & 0xff) != 0 || ((isar1 >> 24) & 0xff) != 0 || ((isar2 >> 8) & 0xff) != 0)
    features |= FEATURE_PAUTH;
  cpu.features = features;
  cpu.lastBreakpoint = idField(dfr0, 12);
  cpu.lastWatchpoint = idField(dfr0, 20);
  const vtr = mrs_ich_vtr_el2();
  cpu.lastListRegister = vtr & 15;
  cpu.priorityBits = ((vtr >> 26) & 7) + 1;
}

/** Gives the host the CPU's debug, profiling and trace units. */
function setDebug(cpu: Cpu): void {
  let mdcr: u64 = (cpu.features & FEATURE_PMU) != 0 ? (mrs_pmcr_el0() >> 11) & 31 : 0;
  if ((cpu.features & FEATURE_SPE) != 0) {
    msr_pmscr_el2((1 << 4) | (1 << 3));
    mdcr |= 3 << 12;
  }
  if ((cpu.features & FEATURE_TRBE) != 0) mdcr |= 3 << 24;
  cpu.hostMdcr = mdcr;
  msr_mdcr_el2(mdcr);
}

/** Lifts the fine-grained traps that are on when their bits are zero. */
function setFineGrainedTraps(cpu: Cpu): void {
  let registers: u64 = 0;
  if ((cpu.features & FEATURE_SME) != 0) registers |= (1 << 54) | (1 << 55);
  if ((cpu.features & FEATURE_S1PIE) != 0) registers |= (1 << 57) | (1 << 58);
  if ((cpu.features & FEATURE_S1POE) != 0) registers |= 1 << 59;
  const debug: u64 = idField(mrs_id_aa64dfr0_el1(), 32) >= 3 ? (<u64>1) << 62 : 0;
  msr_hdfgrtr_el2(debug);
  msr_hdfgwtr_el2(debug);
  msr_hfgrtr_el2(registers);
  msr_hfgwtr_el2(registers);
  msr_hfgitr_el2(0);
  if ((cpu.features & FEATURE_AMU) != 0) msr_hafgrtr_el2(0);
}

/** Sets every EL2 register for the host on this CPU. */
function setupCpu(cpu: Cpu): void {
  detect(cpu);
  if (((cpu.features & FEATURE_FWB) != 0) != (coreState.forceWriteBack != 0))
    panic(cpu, Panic.UNSUPPORTED_CPU, 0);
  let cptr = CPTR_RES1 | CPTR_TZ | CPTR_TSM;
  if ((cpu.features & FEATURE_SVE) != 0) cptr &= ~CPTR_TZ;
  if ((cpu.features & FEATURE_SME) != 0) cptr &= ~CPTR_TSM;
  cpu.hostCptr = cptr;
  cpu.hostHcrx = (cpu.features & FEATURE_TCR2) != 0 ? HCRX_HOST : HCRX_HOST & ~(1 << 14);
  msr_hcr_el2(HCR_HOST);
  msr_cptr_el2(cptr);
  isb();
  msr_vtcr_el2(coreState.hostVtcr);
  msr_vttbr_el2(hostVttbr());
  if ((cpu.features & FEATURE_SVE) != 0) msr_zcr_el2(ZCR_ALL);
  if ((cpu.features & FEATURE_SME) != 0) msr_smcr_el2(SMCR_ALL);
  if ((cpu.features & FEATURE_HCX) != 0) msr_hcrx_el2(cpu.hostHcrx);
  if ((cpu.features & FEATURE_FGT) != 0) setFineGrainedTraps(cpu);
  setDebug(cpu);
  if (idField(mrs_id_aa64mmfr1_el1(), 16) != 0) msr_lorc_el1(0);
  msr_cnthctl_el2(CNTHCTL_HOST);
  msr_cntvoff_el2(0);
  msr_hstr_el2(0);
  msr_vpidr_el2(mrs_midr_el1());
  msr_vmpidr_el2(mrs_mpidr_el1());
  msr_icc_sre_el2(ICC_SRE_EL2_ON);
  isb();
  if ((mrs_icc_sre_el2() & 1) == 0) panic(cpu, Panic.UNSUPPORTED_CPU, 0);
  msr_ich_hcr_el2(0);
  msr_sctlr_el1(SCTLR_EL1_OFF);
  msr_vbar_el2(0);
  tlbi_alle1is();
  ic_iallu();
  dsb_ish();
  dsb_nsh();
  isb();
}

/** Lets this CPU run the host at `entry` with `context` in x0. */
function enterHost(cpu: Cpu, entry: u64, context: u64): void {
  for (let n: u32 = 0; n < 31; n++) setHostReg(cpu, n, 0);
  setHostReg(cpu, 0, context);
  cpu.running = 0;
  cpu.lastVcpu = 0;
  cpu.fpLoaded = 0;
  cpu.debugLoaded = 0;
  msr_elr_el2(entry);
  msr_spsr_el2(PSTATE_HOST);
}

/** The first CPU: the core comes to life and starts the host. */
export function bootCore(cpu: Cpu): void {
  cpu.index = 0;
  if (!checkBootInfo()) panic(cpu, Panic.BOOT_INFO, 0);
  const range = mrs_id_aa64mmfr0_el1() & 15;
  const bits = physicalBits(range);
  if (bits == 0) panic(cpu, Panic.UNSUPPORTED_CPU, range);
  if ((bootInfo.ramBase + (bootInfo.ramPages << 12) - 1) >> bits != 0) panic(cpu, Panic.BOOT_INFO, bits);
  coreState.hostIpaBits = bits;
  coreState.hostVtcr = vtcrFor(bits, range > 5 ? 5 : range);
  coreState.forceWriteBack = hasForceWriteBack() ? 1 : 0;
  coreState.vmSlots = 1;
  divideMemory();
  setupCpu(cpu);
  coreState.booted = 1;
  trace(cpu, Event.BOOT, bootInfo.ramBase, bootInfo.ramPages, bootInfo.corePages);
  enterHost(cpu, bootInfo.hostEntry, bootInfo.hostDtb);
}

/** A further CPU, or one that comes back from suspension. */
export function bootCpu(cpu: Cpu, index: u32): void {
  cpu.index = index;
  acquire(LOCK_PSCI);
  const expected = cpu.bootPending != 0 && coreState.booted != 0;
  cpu.bootPending = 0;
  const entry = cpu.bootEntry;
  const context = cpu.bootContext;
  release(LOCK_PSCI);
  if (!expected) panic(cpu, Panic.UNEXPECTED_CPU, index);
  setupCpu(cpu);
  enterHost(cpu, entry, context);
}
