/**
 * Calls of the host's KVM to "its" EL2, by HVC: the interface of Linux 6.12 with kvm-arm.mode=protected
 * (arch/arm64/include/asm/kvm_asm.h, arch/arm64/kvm/hyp/nvhe/hyp-main.c). The function is in x0, arguments from x1;
 * x0 receives SMCCC_RET_SUCCESS or SMCCC_RET_NOT_SUPPORTED, x1 the result.
 */
import { ERESTART, SMCCC_RET_NOT_SUPPORTED } from "./errno";
import { RESUME_GUEST, RESUME_HOST, syndromeFor } from "./guesttrap";
import { pin, translateRange, unpin } from "./hostmem";
import {
  dsb_ish,
  dsb_ishst,
  host_read64,
  host_write64,
  ic_ialluis,
  isb,
  mrs_elr_el2,
  mrs_ich_vtr_el2,
  msr_cntvoff_el2,
  msr_elr_el2,
  tlbi_alle1is,
} from "./machine";
import { Fill } from "./memory";
import { Cpu, hostReg, setHostReg } from "./percpu";
import { profile } from "./profile";
import { vcpuOf } from "./records";
import { Event, trace, traceExit } from "./trace";
import { adjustPc, Exit, enterGuest, resolveFault } from "./vcpu";
import { initLrs, restoreVmcrAprs, saveVmcrAprs } from "./vgic";
import {
  flushAll,
  flushLocal,
  flushPage,
  flushRange,
  holdVcpu,
  initVcpu,
  initVm,
  letVcpuGo,
  teardownVm,
} from "./vm";

/** Stub calls of a kernel that has not installed its own vectors (asm/virt.h). */
const STUB_CALLS: u64 = 8;
const HVC_SET_VECTORS: u64 = 0;
const HVC_RESET_VECTORS: u64 = 2;
const HVC_STUB_ERR: u64 = 0xbadca11;

/** First function number, and the SMCCC hint bit that may be set in any. */
const KVM_HOST_SMCCC: u64 = 0xc600_0000;
const SMCCC_HINT: u64 = 1 << 16;
/** Above the function number, a restarted call keeps how far it got. */
const PROGRESS_SHIFT: u64 = 32;

/** enum __kvm_host_smccc_func. */
namespace Call {
  export const HYP_INIT: u64 = 0;
  export const GET_MDCR_EL2: u64 = 1;
  export const PKVM_INIT: u64 = 2;
  export const CREATE_PRIVATE_MAPPING: u64 = 3;
  export const CPU_SET_VECTOR: u64 = 4;
  export const ENABLE_SSBS: u64 = 5;
  export const VGIC_INIT_LRS: u64 = 6;
  export const VGIC_GET_GIC_CONFIG: u64 = 7;
  export const PROT_FINALIZE: u64 = 8;
  export const HOST_SHARE_HYP: u64 = 9;
  export const HOST_UNSHARE_HYP: u64 = 10;
  export const ADJUST_PC: u64 = 11;
  export const VCPU_RUN: u64 = 12;
  export const FLUSH_VM_CONTEXT: u64 = 13;
  export const TLB_FLUSH_VMID_IPA: u64 = 14;
  export const TLB_FLUSH_VMID_IPA_NSH: u64 = 15;
  export const TLB_FLUSH_VMID: u64 = 16;
  export const TLB_FLUSH_VMID_RANGE: u64 = 17;
  export const FLUSH_CPU_CONTEXT: u64 = 18;
  export const TIMER_SET_CNTVOFF: u64 = 19;
  export const VGIC_SAVE_VMCR_APRS: u64 = 20;
  export const VGIC_RESTORE_VMCR_APRS: u64 = 21;
  export const VCPU_INIT_TRAPS: u64 = 22;
  export const INIT_VM: u64 = 23;
  export const INIT_VCPU: u64 = 24;
  export const TEARDOWN_VM: u64 = 25;
}

/** Bytes that a leaf or a table of the level named by a flush call covers; an unknown level counts as a page. */
function levelSize(level: u64): u64 {
  if (level == 1) return 1 << 30;
  if (level == 2) return 1 << 21;
  return 1 << 12;
}

/** Lets the host make the call it is making once more, with `progress` to go on from. */
function restart(cpu: Cpu, progress: u64): void {
  setHostReg(cpu, 0, (hostReg(cpu, 0) & 0xffff_ffff) | (progress << PROGRESS_SHIFT));
  msr_elr_el2(mrs_elr_el2() - 4);
}

/** `__kvm_vcpu_run`: the vCPU runs, or the exit code says why not. */
function vcpuRun(cpu: Cpu): u32 {
  const hva = hostReg(cpu, 1);
  const held = holdVcpu(hva, cpu.lastVcpu);
  setHostReg(cpu, 0, 0);
  if (held == 0) {
    trace(cpu, Event.RUN_REFUSED, hva, 0, 0);
    setHostReg(cpu, 1, Exit.ILLEGAL);
    return RESUME_HOST;
  }
  cpu.lastVcpu = held;
  const vcpu = vcpuOf(held);
  const status = resolveFault(vcpu);
  let code = Exit.ILLEGAL;
  if (status == Fill.READ_ONLY || (status & Fill.DENIED) != 0) {
    const syndrome = vcpu.pa + profile.faultEsrEl2;
    host_write64(syndrome, syndromeFor(status, host_read64(syndrome)));
    code = Exit.TRAP;
  } else if (status == Fill.REFUSED) {
    trace(cpu, Event.MAP_REFUSED, hva, vcpu.fault, 0);
  } else if (enterGuest(cpu, vcpu)) {
    traceExit(cpu, Event.GUEST_ENTER, hva, 0, 0);
    return RESUME_GUEST;
  } else {
    trace(cpu, Event.RUN_REFUSED, hva, 1, 0);
  }
  letVcpuGo(vcpu);
  setHostReg(cpu, 1, code);
  return RESUME_HOST;
}

/** Takes back a range of a VM's mappings, a step at a time. Progress is in units of 2 MiB from `start`. */
function flush(cpu: Cpu, mmuVa: u64, start: u64, end: u64): void {
  const progress = hostReg(cpu, 0) >> PROGRESS_SHIFT;
  const from = progress == 0 ? start : (start & ~0x1f_ffff) + (progress << 21);
  const next = flushRange(mmuVa, from, end);
  if (next < end) restart(cpu, (next - (start & ~0x1f_ffff)) >> 21);
  else setHostReg(cpu, 0, 0);
}

/** `__kvm_tlb_flush_vmid_ipa`: the host changed the entry of `level` for `ipa`. */
function flushIpa(cpu: Cpu, mmuVa: u64, ipa: u64, level: u64): void {
  const size = levelSize(level);
  const start = ipa & ~(size - 1);
  if (size > 4096) {
    flush(cpu, mmuVa, start, start + size);
  } else {
    flushPage(mmuVa, ipa);
    setHostReg(cpu, 0, 0);
  }
}

/** Does `work` on the struct vgic_v3_cpu_if that x1 points to, wherever it is in host memory. */
function onVgic(cpu: Cpu, save: bool): void {
  const hva = hostReg(cpu, 1) - profile.vgicV3;
  const held = holdVcpu(hva, cpu.lastVcpu);
  if (held != 0) {
    const vcpu = vcpuOf(held);
    cpu.lastVcpu = held;
    if (save) saveVmcrAprs(cpu, vcpu.pa);
    else restoreVmcrAprs(cpu, vcpu.pa);
    letVcpuGo(vcpu);
    return;
  }
  const pa = translateRange(hva, profile.vcpuSize);
  if (pa == 0 || !pin(pa, profile.vcpuSize)) return;
  if (save) saveVmcrAprs(cpu, pa);
  else restoreVmcrAprs(cpu, pa);
  unpin(pa, profile.vcpuSize);
}

/** `__kvm_adjust_pc` on a vCPU that does not run. */
function adjustHeld(cpu: Cpu): void {
  const held = holdVcpu(hostReg(cpu, 1), cpu.lastVcpu);
  if (held == 0) return;
  adjustPc(vcpuOf(held).pa);
  letVcpuGo(vcpuOf(held));
}

/** Drops every EL1&0 translation and instruction on every CPU: the host starts a new generation of its VMIDs. */
function flushEverything(): void {
  dsb_ishst();
  tlbi_alle1is();
  ic_ialluis();
  dsb_ish();
  isb();
}

/** The calls that set up, account or end; none is frequent. True when `call` is one of them. */
function manage(cpu: Cpu, call: u64): bool {
  const a = hostReg(cpu, 1);
  const b = hostReg(cpu, 2);
  const c = hostReg(cpu, 3);
  let result: i64 = 0;
  if (call == Call.INIT_VM) {
    result = initVm(a, b, c);
    trace(cpu, Event.VM_INIT, a, result, 0);
  } else if (call == Call.INIT_VCPU) {
    result = initVcpu(a, b, c);
    trace(cpu, Event.VCPU_INIT, a, b, result);
  } else if (call == Call.TEARDOWN_VM) {
    result = teardownVm(a);
    if (result == ERESTART) {
      restart(cpu, 0);
      return true;
    }
    trace(cpu, Event.VM_TEARDOWN, a, result, 0);
  } else if (call == Call.GET_MDCR_EL2) {
    result = cpu.hostMdcr;
  } else if (call == Call.VGIC_GET_GIC_CONFIG) {
    result = mrs_ich_vtr_el2();
  } else if (call == Call.VGIC_INIT_LRS) {
    initLrs(cpu);
  } else if (call == Call.CREATE_PRIVATE_MAPPING) {
    result = -12;
  } else if (call > Call.HOST_UNSHARE_HYP && call != Call.VCPU_INIT_TRAPS) {
    return false;
  }
  setHostReg(cpu, 0, 0);
  setHostReg(cpu, 1, result);
  return true;
}

/** Handles an HVC of the host. Returns where to go on: RESUME_HOST or RESUME_GUEST. */
export function hostCall(cpu: Cpu): u32 {
  const id = hostReg(cpu, 0);
  const call = (id & 0xffff_ffff & ~SMCCC_HINT) - KVM_HOST_SMCCC;
  if (call == Call.VCPU_RUN) return vcpuRun(cpu);
  const a = hostReg(cpu, 1);
  const b = hostReg(cpu, 2);
  const c = hostReg(cpu, 3);
  if (call == Call.TIMER_SET_CNTVOFF) {
    msr_cntvoff_el2(a);
    setHostReg(cpu, 0, 0);
  } else if (call == Call.VGIC_SAVE_VMCR_APRS || call == Call.VGIC_RESTORE_VMCR_APRS) {
    onVgic(cpu, call == Call.VGIC_SAVE_VMCR_APRS);
    setHostReg(cpu, 0, 0);
  } else if (call == Call.FLUSH_CPU_CONTEXT) {
    flushLocal(a);
    setHostReg(cpu, 0, 0);
  } else if (call == Call.TLB_FLUSH_VMID_IPA || call == Call.TLB_FLUSH_VMID_IPA_NSH) {
    flushIpa(cpu, a, b, c);
  } else if (call == Call.TLB_FLUSH_VMID) {
    flushAll(a);
    setHostReg(cpu, 0, 0);
  } else if (call == Call.TLB_FLUSH_VMID_RANGE) {
    flush(cpu, a, b, b + (c << 12));
  } else if (call == Call.FLUSH_VM_CONTEXT) {
    flushEverything();
    setHostReg(cpu, 0, 0);
  } else if (call == Call.ADJUST_PC) {
    adjustHeld(cpu);
    setHostReg(cpu, 0, 0);
  } else if (id < STUB_CALLS) {
    setHostReg(cpu, 0, id == HVC_SET_VECTORS || id == HVC_RESET_VECTORS ? 0 : HVC_STUB_ERR);
  } else if (!manage(cpu, call)) {
    trace(cpu, Event.HOST_CALL_REFUSED, id, a, b);
    setHostReg(cpu, 0, SMCCC_RET_NOT_SUPPORTED);
  }
  return RESUME_HOST;
}
