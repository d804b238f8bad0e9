/**
 * The virtual GIC CPU interface (arch/arm64/kvm/hyp/vgic-v3-sr.c): list registers at every entry and exit, VMCR and
 * active priorities when the host loads or puts a vCPU. The guest's state is struct vgic_v3_cpu_if in its struct
 * kvm_vcpu; GICv2 emulation (ICC_SRE_EL1.SRE = 0) and GICv4 are not offered to the host.
 */
import {
  host_read32,
  host_read64,
  host_write32,
  host_write64,
  isb,
  mrs_icc_sre_el2,
  mrs_ich_ap0r0_el2,
  mrs_ich_ap0r1_el2,
  mrs_ich_ap0r2_el2,
  mrs_ich_ap0r3_el2,
  mrs_ich_ap1r0_el2,
  mrs_ich_ap1r1_el2,
  mrs_ich_ap1r2_el2,
  mrs_ich_ap1r3_el2,
  mrs_ich_elrsr_el2,
  mrs_ich_lr0_el2,
  mrs_ich_lr1_el2,
  mrs_ich_lr2_el2,
  mrs_ich_lr3_el2,
  mrs_ich_lr4_el2,
  mrs_ich_lr5_el2,
  mrs_ich_lr6_el2,
  mrs_ich_lr7_el2,
  mrs_ich_lr8_el2,
  mrs_ich_lr9_el2,
  mrs_ich_lr10_el2,
  mrs_ich_lr11_el2,
  mrs_ich_lr12_el2,
  mrs_ich_lr13_el2,
  mrs_ich_lr14_el2,
  mrs_ich_lr15_el2,
  mrs_ich_vmcr_el2,
  msr_icc_sre_el1,
  msr_icc_sre_el2,
  msr_ich_ap0r0_el2,
  msr_ich_ap0r1_el2,
  msr_ich_ap0r2_el2,
  msr_ich_ap0r3_el2,
  msr_ich_ap1r0_el2,
  msr_ich_ap1r1_el2,
  msr_ich_ap1r2_el2,
  msr_ich_ap1r3_el2,
  msr_ich_hcr_el2,
  msr_ich_lr0_el2,
  msr_ich_lr1_el2,
  msr_ich_lr2_el2,
  msr_ich_lr3_el2,
  msr_ich_lr4_el2,
  msr_ich_lr5_el2,
  msr_ich_lr6_el2,
  msr_ich_lr7_el2,
  msr_ich_lr8_el2,
  msr_ich_lr9_el2,
  msr_ich_lr10_el2,
  msr_ich_lr11_el2,
  msr_ich_lr12_el2,
  msr_ich_lr13_el2,
  msr_ich_lr14_el2,
  msr_ich_lr15_el2,
  msr_ich_vmcr_el2,
} from "./machine";
import { Cpu } from "./percpu";
import { profile } from "./profile";

function readLr(n: u32): u64 {
  switch (n) {
    case 0:
      return mrs_ich_lr0_el2();
    case 1:
      return mrs_ich_lr1_el2();
    case 2:
      return mrs_ich_lr2_el2();
    case 3:
      return mrs_ich_lr3_el2();
    case 4:
      return mrs_ich_lr4_el2();
    case 5:
      return mrs_ich_lr5_el2();
    case 6:
      return mrs_ich_lr6_el2();
    case 7:
      return mrs_ich_lr7_el2();
    case 8:
      return mrs_ich_lr8_el2();
    case 9:
      return mrs_ich_lr9_el2();
    case 10:
      return mrs_ich_lr10_el2();
    case 11:
      return mrs_ich_lr11_el2();
    case 12:
      return mrs_ich_lr12_el2();
    case 13:
      return mrs_ich_lr13_el2();
    case 14:
      return mrs_ich_lr14_el2();
    default:
      return mrs_ich_lr15_el2();
  }
}

function writeLr(n: u32, value: u64): void {
  switch (n) {
    case 0:
      msr_ich_lr0_el2(value);
      break;
    case 1:
      msr_ich_lr1_el2(value);
      break;
    case 2:
      msr_ich_lr2_el2(value);
      break;
    case 3:
      msr_ich_lr3_el2(value);
      break;
    case 4:
      msr_ich_lr4_el2(value);
      break;
    case 5:
      msr_ich_lr5_el2(value);
      break;
    case 6:
      msr_ich_lr6_el2(value);
      break;
    case 7:
      msr_ich_lr7_el2(value);
      break;
    case 8:
      msr_ich_lr8_el2(value);
      break;
    case 9:
      msr_ich_lr9_el2(value);
      break;
    case 10:
      msr_ich_lr10_el2(value);
      break;
    case 11:
      msr_ich_lr11_el2(value);
      break;
    case 12:
      msr_ich_lr12_el2(value);
      break;
    case 13:
      msr_ich_lr13_el2(value);
      break;
    case 14:
      msr_ich_lr14_el2(value);
      break;
    default:
      msr_ich_lr15_el2(value);
  }
}

const ICH_HCR_EN: u32 = 1;
/** ICH_HCR_EL2 fields that concern the guest alone: EN, maintenance interrupts, traps, EOIcount. */
const ICH_HCR_GUEST: u32 = 0xf800_7cff;
const ICH_LR_STATE: u64 = 3 << 62;
/** ICH_LR_EL2 fields: state, HW, group, priority, physical and virtual INTID. */
const ICH_LR_FIELDS: u64 = 0xf0ff_1fff_ffff_ffff;
const ICC_SRE_ENABLE: u64 = 1 << 3;
const ICC_SRE_SRE: u64 = 1;

/** Number of list registers the host says are in use, at most those the CPU has. */
function usedLrs(cpu: Cpu, context: u64): u32 {
  const used = host_read32(context + profile.vgicUsedLrs);
  return <u64>used > cpu.lastListRegister + 1 ? <u32>cpu.lastListRegister + 1 : used;
}

/** Loads the guest's list registers. `context` is its struct kvm_vcpu in host memory. */
export function loadGuestVgic(cpu: Cpu, context: u64): void {
  const hcr = host_read32(context + profile.vgicHcr) & ICH_HCR_GUEST;
  const used = usedLrs(cpu, context);
  msr_icc_sre_el2(mrs_icc_sre_el2() & ~ICC_SRE_ENABLE);
  if ((hcr & ICH_HCR_EN) == 0) {
    msr_icc_sre_el1(ICC_SRE_SRE);
    isb();
    msr_ich_hcr_el2(hcr);
  } else if (used != 0) {
    msr_ich_hcr_el2(hcr);
    for (let n: u32 = 0; n < 16 && n < used; n++) {
      writeLr(n, host_read64(context + profile.vgicLr + (n << 3)) & ICH_LR_FIELDS);
    }
  }
  cpu.usedLrs = used;
}

/** Writes the guest's list registers back, and makes the interface inert for the host. */
export function saveGuestVgic(cpu: Cpu, context: u64): void {
  const used = <u32>cpu.usedLrs;
  if (used != 0) {
    const empty = <u32>mrs_ich_elrsr_el2();
    for (let n: u32 = 0; n < 16 && n < used; n++) {
      const slot = context + profile.vgicLr + (n << 3);
      if (((empty >> n) & 1) != 0) host_write64(slot, host_read64(slot) & ~ICH_LR_STATE);
      else host_write64(slot, readLr(n));
      writeLr(n, 0);
    }
  }
  msr_ich_hcr_el2(0);
  msr_icc_sre_el2(mrs_icc_sre_el2() | ICC_SRE_ENABLE);
}

/** Empties every list register. */
export function initLrs(cpu: Cpu): void {
  for (let n: u32 = 0; n < 16 && <u64>n <= cpu.lastListRegister; n++) writeLr(n, 0);
}

/** Writes VMCR and the active priorities to the guest's context: the host puts the vCPU. */
export function saveVmcrAprs(cpu: Cpu, context: u64): void {
  host_write32(context + profile.vgicAp0r, <u32>mrs_ich_ap0r0_el2());
  host_write32(context + profile.vgicAp1r, <u32>mrs_ich_ap1r0_el2());
  if (cpu.priorityBits > 5) {
    host_write32(context + profile.vgicAp0r + 4, <u32>mrs_ich_ap0r1_el2());
    host_write32(context + profile.vgicAp1r + 4, <u32>mrs_ich_ap1r1_el2());
  }
  if (cpu.priorityBits > 6) {
    host_write32(context + profile.vgicAp0r + 8, <u32>mrs_ich_ap0r2_el2());
    host_write32(context + profile.vgicAp0r + 12, <u32>mrs_ich_ap0r3_el2());
    host_write32(context + profile.vgicAp1r + 8, <u32>mrs_ich_ap1r2_el2());
    host_write32(context + profile.vgicAp1r + 12, <u32>mrs_ich_ap1r3_el2());
  }
  if (host_read32(context + profile.vgicSre) != 0)
    host_write32(context + profile.vgicVmcr, <u32>mrs_ich_vmcr_el2());
}

/** Loads VMCR and the active priorities of the guest: the host loads the vCPU. */
export function restoreVmcrAprs(cpu: Cpu, context: u64): void {
  if (host_read32(context + profile.vgicSre) != 0) msr_ich_vmcr_el2(host_read32(context + profile.vgicVmcr));
  msr_ich_ap0r0_el2(host_read32(context + profile.vgicAp0r));
  msr_ich_ap1r0_el2(host_read32(context + profile.vgicAp1r));
  if (cpu.priorityBits > 5) {
    msr_ich_ap0r1_el2(host_read32(context + profile.vgicAp0r + 4));
    msr_ich_ap1r1_el2(host_read32(context + profile.vgicAp1r + 4));
  }
  if (cpu.priorityBits > 6) {
    msr_ich_ap0r2_el2(host_read32(context + profile.vgicAp0r + 8));
    msr_ich_ap0r3_el2(host_read32(context + profile.vgicAp0r + 12));
    msr_ich_ap1r2_el2(host_read32(context + profile.vgicAp1r + 8));
    msr_ich_ap1r3_el2(host_read32(context + profile.vgicAp1r + 12));
  }
}
