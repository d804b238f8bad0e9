/**
 * Where the host kernel keeps what the core must read and write: byte offsets into its structures.
 *
 * The boot tool fills this in from the kernel's own BTF. It is untrusted: a wrong offset makes the host's VMs fail,
 * never the core, because `boot` accepts no offset that leads out of the structure. The comment of each field is the
 * path of the member in the kernel's types; offsets are from the start of kvm, kvm_guest_debug_arch or kvm_vcpu.
 */
import { PROFILE } from "./layout";

@unmanaged
export class Profile {
  /** sizeof kvm_vcpu */
  vcpuSize: u64;
  /** sizeof kvm */
  kvmSize: u64;
  /** Pages the host donates for its hypervisor's VM and vCPU structures. */
  hypVmPages: u64;
  hypVcpuPages: u64;
  /** kvm.created_vcpus, .arch.mmu, .arch.mmu.pgd_phys, .arch.mmu.vtcr, .arch.pkvm.teardown_mc.head, .nr_pages */
  createdVcpus: u64;
  mmu: u64;
  mmuPgdPhys: u64;
  mmuVtcr: u64;
  teardownHead: u64;
  teardownPages: u64;
  /** kvm_guest_debug_arch.dbg_bcr, dbg_bvr, dbg_wcr, dbg_wvr */
  dbgBcr: u64;
  dbgBvr: u64;
  dbgWcr: u64;
  dbgWvr: u64;
  /** kvm_vcpu.kvm */
  vcpuKvm: u64;
  /** kvm_vcpu.arch.ctxt.regs: struct user_pt_regs, then spsr_abt.. */
  regs: u64;
  /** kvm_vcpu.arch.ctxt.fp_regs: struct user_fpsimd_state */
  fpRegs: u64;
  /** kvm_vcpu.arch.sve_state, .sve_max_vl, .cflags */
  sveState: u64;
  sveMaxVl: u64;
  cflags: u64;
  /** kvm_vcpu.arch.hcr_el2, .hcrx_el2, .mdcr_el2, .vsesr_el2 */
  hcrEl2: u64;
  hcrxEl2: u64;
  mdcrEl2: u64;
  vsesrEl2: u64;
  /** kvm_vcpu.arch.fault.* */
  faultEsrEl2: u64;
  faultFarEl2: u64;
  faultHpfarEl2: u64;
  faultDisrEl1: u64;
  /** kvm_vcpu.arch.iflags */
  iflags: u64;
  /** kvm_vcpu.arch.debug_ptr */
  debugPtr: u64;
  /** kvm_vcpu.arch.pmu.events.events_host, .events_guest */
  pmuEventsHost: u64;
  pmuEventsGuest: u64;
  /** kvm_vcpu.arch.vgic_cpu.vgic_v3, and its members */
  vgicV3: u64;
  vgicHcr: u64;
  vgicVmcr: u64;
  vgicSre: u64;
  vgicAp0r: u64;
  vgicAp1r: u64;
  vgicLr: u64;
  vgicUsedLrs: u64;
  /** kvm_vcpu.arch.ctxt.sys_regs[...]: offsets of the entries from the start of kvm_vcpu */
  mpidrEl1: u64;
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
  disrEl1: u64;
  tpidrEl0: u64;
  tpidrroEl0: u64;
  apiakeyloEl1: u64;
  apiakeyhiEl1: u64;
  apibkeyloEl1: u64;
  apibkeyhiEl1: u64;
  apdakeyloEl1: u64;
  apdakeyhiEl1: u64;
  apdbkeyloEl1: u64;
  apdbkeyhiEl1: u64;
  apgakeyloEl1: u64;
  apgakeyhiEl1: u64;
}

export const profile: Profile = changetype<Profile>(PROFILE);
