import { Btf, findBtf } from "./btf.ts";
import { type KernelImage, kernelRelease } from "./image.ts";

/** The members whose offset the core needs, by struct. Paths are as in C; see Btf.offsetOf. */
const members = {
  kvm_vcpu: [
    "kvm",
    "vcpu_idx",
    "arch.ctxt.regs",
    "arch.ctxt.spsr_abt",
    "arch.ctxt.spsr_und",
    "arch.ctxt.spsr_irq",
    "arch.ctxt.spsr_fiq",
    "arch.ctxt.fp_regs",
    "arch.ctxt.sys_regs",
    "arch.sve_state",
    "arch.sve_max_vl",
    "arch.hw_mmu",
    "arch.hcr_el2",
    "arch.hcrx_el2",
    "arch.mdcr_el2",
    "arch.fault.esr_el2",
    "arch.fault.far_el2",
    "arch.fault.hpfar_el2",
    "arch.fault.disr_el1",
    "arch.cflags",
    "arch.iflags",
    "arch.sflags",
    "arch.debug_ptr",
    "arch.vcpu_debug_state",
    "arch.external_debug_state",
    "arch.pmu.events.events_host",
    "arch.pmu.events.events_guest",
    "arch.vgic_cpu.vgic_v3",
    "arch.vgic_cpu.vgic_v3.vgic_hcr",
    "arch.vgic_cpu.vgic_v3.vgic_vmcr",
    "arch.vgic_cpu.vgic_v3.vgic_sre",
    "arch.vgic_cpu.vgic_v3.vgic_ap0r",
    "arch.vgic_cpu.vgic_v3.vgic_ap1r",
    "arch.vgic_cpu.vgic_v3.vgic_lr",
    "arch.vgic_cpu.vgic_v3.used_lrs",
    "arch.vgic_cpu.vgic_v3.its_vpe.its_vm",
    "arch.vsesr_el2",
  ],
  kvm: [
    "created_vcpus",
    "arch.mmu",
    "arch.fgu",
    "arch.id_regs",
    "arch.flags",
    "arch.timer_data",
    "arch.pkvm.handle",
    "arch.pkvm.teardown_mc.head",
    "arch.pkvm.teardown_mc.nr_pages",
  ],
  kvm_s2_mmu: ["vmid", "pgd_phys", "vtcr"],
  kvm_guest_debug_arch: ["dbg_bcr", "dbg_bvr", "dbg_wcr", "dbg_wvr"],
} as const;

/** The structs whose size the core needs. */
const sizes = ["kvm_vcpu", "kvm"] as const;

/** The enumerators whose value the core needs, by enum: sys_regs[] is indexed by vcpu_sysreg, in no regular order. */
const enumerators = {
  vcpu_sysreg: [
    "MPIDR_EL1",
    "TPIDR_EL0",
    "TPIDRRO_EL0",
    "TPIDR_EL1",
    "CNTKCTL_EL1",
    "PAR_EL1",
    "MDCCINT_EL1",
    "DISR_EL1",
    "PMUSERENR_EL0",
    "APIAKEYLO_EL1",
    "APIAKEYHI_EL1",
    "APIBKEYLO_EL1",
    "APIBKEYHI_EL1",
    "APDAKEYLO_EL1",
    "APDAKEYHI_EL1",
    "APDBKEYLO_EL1",
    "APDBKEYHI_EL1",
    "APGAKEYLO_EL1",
    "APGAKEYHI_EL1",
    "RGSR_EL1",
    "GCR_EL1",
    "TFSRE0_EL1",
    "POR_EL0",
    "SVCR",
    "FPMR",
    "DACR32_EL2",
    "IFSR32_EL2",
    "FPEXC32_EL2",
    "DBGVCR32_EL2",
    "CNTVOFF_EL2",
    "CPACR_EL1",
    "CONTEXTIDR_EL1",
    "SCTLR_EL1",
    "ACTLR_EL1",
    "TCR_EL1",
    "AFSR0_EL1",
    "AFSR1_EL1",
    "ESR_EL1",
    "MAIR_EL1",
    "AMAIR_EL1",
    "MDSCR_EL1",
    "SPSR_EL1",
    "CNTV_CVAL_EL0",
    "CNTV_CTL_EL0",
    "CNTP_CVAL_EL0",
    "CNTP_CTL_EL0",
    "TFSR_EL1",
    "ZCR_EL1",
    "TTBR0_EL1",
    "TTBR1_EL1",
    "FAR_EL1",
    "ELR_EL1",
    "SP_EL1",
    "VBAR_EL1",
    "TCR2_EL1",
    "PIRE0_EL1",
    "PIR_EL1",
    "POR_EL1",
  ],
  /** Function numbers of the kernel's calls to EL2; `__kvm_hyp_init`, the first, is 0 in every kernel and in no enum. */
  __kvm_host_smccc_func: [
    "__KVM_HOST_SMCCC_FUNC___kvm_get_mdcr_el2",
    "__KVM_HOST_SMCCC_FUNC___pkvm_init",
    "__KVM_HOST_SMCCC_FUNC___pkvm_create_private_mapping",
    "__KVM_HOST_SMCCC_FUNC___pkvm_cpu_set_vector",
    "__KVM_HOST_SMCCC_FUNC___kvm_enable_ssbs",
    "__KVM_HOST_SMCCC_FUNC___vgic_v3_init_lrs",
    "__KVM_HOST_SMCCC_FUNC___vgic_v3_get_gic_config",
    "__KVM_HOST_SMCCC_FUNC___pkvm_prot_finalize",
    "__KVM_HOST_SMCCC_FUNC___pkvm_host_share_hyp",
    "__KVM_HOST_SMCCC_FUNC___pkvm_host_unshare_hyp",
    "__KVM_HOST_SMCCC_FUNC___kvm_adjust_pc",
    "__KVM_HOST_SMCCC_FUNC___kvm_vcpu_run",
    "__KVM_HOST_SMCCC_FUNC___kvm_flush_vm_context",
    "__KVM_HOST_SMCCC_FUNC___kvm_tlb_flush_vmid_ipa",
    "__KVM_HOST_SMCCC_FUNC___kvm_tlb_flush_vmid_ipa_nsh",
    "__KVM_HOST_SMCCC_FUNC___kvm_tlb_flush_vmid",
    "__KVM_HOST_SMCCC_FUNC___kvm_tlb_flush_vmid_range",
    "__KVM_HOST_SMCCC_FUNC___kvm_flush_cpu_context",
    "__KVM_HOST_SMCCC_FUNC___kvm_timer_set_cntvoff",
    "__KVM_HOST_SMCCC_FUNC___vgic_v3_save_vmcr_aprs",
    "__KVM_HOST_SMCCC_FUNC___vgic_v3_restore_vmcr_aprs",
    "__KVM_HOST_SMCCC_FUNC___pkvm_vcpu_init_traps",
    "__KVM_HOST_SMCCC_FUNC___pkvm_init_vm",
    "__KVM_HOST_SMCCC_FUNC___pkvm_init_vcpu",
    "__KVM_HOST_SMCCC_FUNC___pkvm_teardown_vm",
  ],
} as const;

type MembersOf<Table extends Record<string, readonly string[]>> = {
  [Name in keyof Table & string]: `${Name}.${Table[Name][number]}`;
}[keyof Table & string];

/**
 * The name of a value of the profile, which says where it comes from: `kvm_vcpu.arch.hcr_el2` is an offset, `sizeof kvm` a
 * size, `vcpu_sysreg.SCTLR_EL1` an enumerator's value.
 */
export type ProfileField =
  | MembersOf<typeof members>
  | `sizeof ${(typeof sizes)[number]}`
  | MembersOf<typeof enumerators>;

/** What the core is told about the host kernel. It is advice from the host: a wrong value can break the host's VMs and nothing else. */
export interface Profile {
  /** The kernel it was read from, `6.12.117+deb12-cloud-arm64`. */
  readonly release: string;
  readonly values: Readonly<Record<ProfileField, number>>;
}

/**
 * Reads the profile from a kernel's BTF.
 * @throws BootError when the kernel has no BTF, or its BTF lacks a field, which it names
 */
export function readProfile(image: KernelImage): Profile {
  const btf = new Btf(findBtf(image.bytes, image.name), image.name);
  const values: Record<string, number> = {};
  for (const [struct, paths] of Object.entries(members)) {
    for (const path of paths) values[`${struct}.${path}`] = btf.offsetOf(struct, path);
  }
  for (const struct of sizes) values[`sizeof ${struct}`] = btf.sizeOf(struct);
  for (const [enumeration, names] of Object.entries(enumerators)) {
    for (const name of names) values[`${enumeration}.${name}`] = btf.enumValue(enumeration, name);
  }
  return {
    release: kernelRelease(image) ?? "unknown",
    values: values as Record<ProfileField, number>,
  };
}
