/**
 * The machine: every primitive through which the core reaches hardware, and the module's only imports.
 *
 * Each is one instruction or a fixed short sequence in `native/primitives.h` and an operation of the in-process
 * machine in tests. The verifier gives every primitive a specification by its kind; the kinds are the headings below.
 */

// Table memory: page-table roots and table pages. Addresses are physical, 8-byte aligned.

/** Reads the descriptor at `pa`. */
export declare function pt_read(pa: u64): u64;
/** Writes the descriptor at `pa` with a single-copy atomic store: a walker sees the old value or the new one. */
export declare function pt_write(pa: u64, descriptor: u64): void;
/** Fills the table page at `pa` (4096-byte aligned) with zeroes. */
export declare function pt_zero(pa: u64): void;

// Owner table: one 64-bit entry a physical page, indexed from the first page of RAM.

export declare function s2page_read(index: u64): u64;
export declare function s2page_write(index: u64, entry: u64): void;

// Page contents. `pa` is 4096-byte aligned.

/** Fills the page with zeroes. */
export declare function page_zero(pa: u64): void;
/** Cleans and invalidates the page to the point of coherency, by physical address through the core's own mapping. */
export declare function page_clean(pa: u64): void;

// Host memory, read and written only while the page is known to be the host's. A read is a data oracle.

export declare function host_read8(pa: u64): u32;
export declare function host_read32(pa: u64): u32;
export declare function host_read64(pa: u64): u64;
export declare function host_write8(pa: u64, value: u32): void;
export declare function host_write32(pa: u64, value: u32): void;
export declare function host_write64(pa: u64, value: u64): void;
/** Copies 31 words at `pa` into linear memory at `frame`. */
export declare function host_read_frame(frame: usize, pa: u64): void;
/** Copies 31 words of linear memory at `frame` to `pa`. */
export declare function host_write_frame(pa: u64, frame: usize): void;

// FP/SIMD and SVE registers. An image is v0..v31, FPSR, FPCR: 528 bytes.

export declare function fp_save(image: usize): void;
export declare function fp_load(image: usize): void;
export declare function fp_save_host(pa: u64): void;
export declare function fp_load_host(pa: u64): void;
/** Saves z0..z31, p0..p15 and FFR at the vector length in force to `pa`, FPSR and FPCR to `fpsr`. */
export declare function sve_save_host(pa: u64, fpsr: u64): void;
export declare function sve_load_host(pa: u64, fpsr: u64): void;

// Barriers, TLB and instruction cache maintenance. TLB operations act on the VMID in VTTBR_EL2.

export declare function isb(): void;
export declare function dsb_nsh(): void;
export declare function dsb_ish(): void;
export declare function dsb_ishst(): void;
export declare function tlbi_ipas2e1is(page: u64): void;
export declare function tlbi_vmalle1is(): void;
export declare function tlbi_vmalls12e1is(): void;
export declare function tlbi_vmalle1(): void;
export declare function tlbi_alle1is(): void;
export declare function ic_iallu(): void;
export declare function ic_ialluis(): void;
/** Drains the statistical profiling buffer. */
export declare function psb_csync(): void;
/** Drains the trace buffer. */
export declare function tsb_csync(): void;

// Address translation by stage 1 of the EL1&0 regime; the result is in PAR_EL1.

export declare function at_s1e1r(va: u64): void;

// Firmware: SMC with x0..x7 of the frame at `frame`, which receives x0..x3.

export declare function smc(frame: usize): void;

/** Ends the core: leaves the machine to the firmware's SYSTEM_OFF. Does not return. */
export declare function halt(): void;

// System registers, by their architectural names.

export declare function mrs_mpidr_el1(): u64;
export declare function mrs_midr_el1(): u64;
export declare function mrs_id_aa64pfr0_el1(): u64;
export declare function mrs_id_aa64pfr1_el1(): u64;
export declare function mrs_id_aa64dfr0_el1(): u64;
export declare function mrs_id_aa64isar1_el1(): u64;
export declare function mrs_id_aa64isar2_el1(): u64;
export declare function mrs_id_aa64mmfr0_el1(): u64;
export declare function mrs_id_aa64mmfr1_el1(): u64;
export declare function mrs_id_aa64mmfr2_el1(): u64;
export declare function mrs_id_aa64mmfr3_el1(): u64;

export declare function mrs_esr_el2(): u64;
export declare function mrs_far_el2(): u64;
export declare function mrs_hpfar_el2(): u64;
export declare function mrs_elr_el2(): u64;
export declare function msr_elr_el2(value: u64): void;
export declare function mrs_spsr_el2(): u64;
export declare function msr_spsr_el2(value: u64): void;
export declare function mrs_hcr_el2(): u64;
export declare function msr_hcr_el2(value: u64): void;
export declare function msr_hcrx_el2(value: u64): void;
export declare function msr_cptr_el2(value: u64): void;
export declare function msr_mdcr_el2(value: u64): void;
export declare function msr_hstr_el2(value: u64): void;
export declare function msr_cnthctl_el2(value: u64): void;
export declare function msr_cntvoff_el2(value: u64): void;
export declare function mrs_vttbr_el2(): u64;
export declare function msr_vttbr_el2(value: u64): void;
export declare function msr_vtcr_el2(value: u64): void;
export declare function msr_vpidr_el2(value: u64): void;
export declare function msr_vmpidr_el2(value: u64): void;
/** Selects the vectors of the context about to run: 0 the host's, 1 a guest's. */
export declare function msr_vbar_el2(vectors: u64): void;
export declare function msr_vsesr_el2(value: u64): void;
export declare function mrs_vdisr_el2(): u64;
export declare function msr_vdisr_el2(value: u64): void;
export declare function mrs_disr_el1(): u64;
export declare function msr_disr_el1(value: u64): void;
/** Streaming mode and ZA of SME: bits 0 and 1. */
export declare function mrs_svcr(): u64;
export declare function mrs_smpri_el1(): u64;
export declare function msr_smpri_el1(value: u64): void;
export declare function mrs_tpidr2_el0(): u64;
export declare function msr_tpidr2_el0(value: u64): void;
export declare function msr_zcr_el2(value: u64): void;
export declare function msr_smcr_el2(value: u64): void;
export declare function msr_hfgrtr_el2(value: u64): void;
export declare function msr_hfgwtr_el2(value: u64): void;
export declare function msr_hfgitr_el2(value: u64): void;
export declare function msr_hdfgrtr_el2(value: u64): void;
export declare function msr_hdfgwtr_el2(value: u64): void;
export declare function msr_hafgrtr_el2(value: u64): void;
export declare function msr_pmscr_el2(value: u64): void;
export declare function msr_lorc_el1(value: u64): void;

export declare function mrs_sctlr_el1(): u64;
export declare function msr_sctlr_el1(value: u64): void;
export declare function mrs_cpacr_el1(): u64;
export declare function msr_cpacr_el1(value: u64): void;
export declare function mrs_ttbr0_el1(): u64;
export declare function msr_ttbr0_el1(value: u64): void;
export declare function mrs_ttbr1_el1(): u64;
export declare function msr_ttbr1_el1(value: u64): void;
export declare function mrs_tcr_el1(): u64;
export declare function msr_tcr_el1(value: u64): void;
export declare function mrs_tcr2_el1(): u64;
export declare function msr_tcr2_el1(value: u64): void;
export declare function mrs_pir_el1(): u64;
export declare function msr_pir_el1(value: u64): void;
export declare function mrs_pire0_el1(): u64;
export declare function msr_pire0_el1(value: u64): void;
export declare function mrs_por_el1(): u64;
export declare function msr_por_el1(value: u64): void;
export declare function mrs_por_el0(): u64;
export declare function msr_por_el0(value: u64): void;
export declare function mrs_esr_el1(): u64;
export declare function msr_esr_el1(value: u64): void;
export declare function mrs_afsr0_el1(): u64;
export declare function msr_afsr0_el1(value: u64): void;
export declare function mrs_afsr1_el1(): u64;
export declare function msr_afsr1_el1(value: u64): void;
export declare function mrs_far_el1(): u64;
export declare function msr_far_el1(value: u64): void;
export declare function mrs_mair_el1(): u64;
export declare function msr_mair_el1(value: u64): void;
export declare function mrs_vbar_el1(): u64;
export declare function msr_vbar_el1(value: u64): void;
export declare function mrs_contextidr_el1(): u64;
export declare function msr_contextidr_el1(value: u64): void;
export declare function mrs_amair_el1(): u64;
export declare function msr_amair_el1(value: u64): void;
export declare function mrs_cntkctl_el1(): u64;
export declare function msr_cntkctl_el1(value: u64): void;
export declare function mrs_par_el1(): u64;
export declare function msr_par_el1(value: u64): void;
export declare function mrs_tpidr_el1(): u64;
export declare function msr_tpidr_el1(value: u64): void;
export declare function mrs_sp_el1(): u64;
export declare function msr_sp_el1(value: u64): void;
export declare function mrs_elr_el1(): u64;
export declare function msr_elr_el1(value: u64): void;
export declare function mrs_spsr_el1(): u64;
export declare function msr_spsr_el1(value: u64): void;
export declare function mrs_mdscr_el1(): u64;
export declare function msr_mdscr_el1(value: u64): void;
export declare function mrs_mdccint_el1(): u64;
export declare function msr_mdccint_el1(value: u64): void;
export declare function mrs_zcr_el1(): u64;
export declare function msr_zcr_el1(value: u64): void;
export declare function mrs_sp_el0(): u64;
export declare function msr_sp_el0(value: u64): void;
export declare function mrs_tpidr_el0(): u64;
export declare function msr_tpidr_el0(value: u64): void;
export declare function mrs_tpidrro_el0(): u64;
export declare function msr_tpidrro_el0(value: u64): void;

export declare function mrs_apiakeylo_el1(): u64;
export declare function msr_apiakeylo_el1(value: u64): void;
export declare function mrs_apiakeyhi_el1(): u64;
export declare function msr_apiakeyhi_el1(value: u64): void;
export declare function mrs_apibkeylo_el1(): u64;
export declare function msr_apibkeylo_el1(value: u64): void;
export declare function mrs_apibkeyhi_el1(): u64;
export declare function msr_apibkeyhi_el1(value: u64): void;
export declare function mrs_apdakeylo_el1(): u64;
export declare function msr_apdakeylo_el1(value: u64): void;
export declare function mrs_apdakeyhi_el1(): u64;
export declare function msr_apdakeyhi_el1(value: u64): void;
export declare function mrs_apdbkeylo_el1(): u64;
export declare function msr_apdbkeylo_el1(value: u64): void;
export declare function mrs_apdbkeyhi_el1(): u64;
export declare function msr_apdbkeyhi_el1(value: u64): void;
export declare function mrs_apgakeylo_el1(): u64;
export declare function msr_apgakeylo_el1(value: u64): void;
export declare function mrs_apgakeyhi_el1(): u64;
export declare function msr_apgakeyhi_el1(value: u64): void;

export declare function mrs_pmcr_el0(): u64;
export declare function msr_pmselr_el0(value: u64): void;
export declare function mrs_pmuserenr_el0(): u64;
export declare function msr_pmuserenr_el0(value: u64): void;
export declare function msr_pmcntenset_el0(value: u64): void;
export declare function msr_pmcntenclr_el0(value: u64): void;

export declare function mrs_pmbidr_el1(): u64;
export declare function mrs_pmblimitr_el1(): u64;
export declare function mrs_pmscr_el1(): u64;
export declare function msr_pmscr_el1(value: u64): void;
export declare function mrs_trbidr_el1(): u64;
export declare function mrs_trblimitr_el1(): u64;
export declare function mrs_trfcr_el1(): u64;
export declare function msr_trfcr_el1(value: u64): void;

// Breakpoint and watchpoint registers: control and value.

export declare function mrs_dbgbcr0_el1(): u64;
export declare function msr_dbgbcr0_el1(value: u64): void;
export declare function mrs_dbgbcr1_el1(): u64;
export declare function msr_dbgbcr1_el1(value: u64): void;
export declare function mrs_dbgbcr2_el1(): u64;
export declare function msr_dbgbcr2_el1(value: u64): void;
export declare function mrs_dbgbcr3_el1(): u64;
export declare function msr_dbgbcr3_el1(value: u64): void;
export declare function mrs_dbgbcr4_el1(): u64;
export declare function msr_dbgbcr4_el1(value: u64): void;
export declare function mrs_dbgbcr5_el1(): u64;
export declare function msr_dbgbcr5_el1(value: u64): void;
export declare function mrs_dbgbcr6_el1(): u64;
export declare function msr_dbgbcr6_el1(value: u64): void;
export declare function mrs_dbgbcr7_el1(): u64;
export declare function msr_dbgbcr7_el1(value: u64): void;
export declare function mrs_dbgbcr8_el1(): u64;
export declare function msr_dbgbcr8_el1(value: u64): void;
export declare function mrs_dbgbcr9_el1(): u64;
export declare function msr_dbgbcr9_el1(value: u64): void;
export declare function mrs_dbgbcr10_el1(): u64;
export declare function msr_dbgbcr10_el1(value: u64): void;
export declare function mrs_dbgbcr11_el1(): u64;
export declare function msr_dbgbcr11_el1(value: u64): void;
export declare function mrs_dbgbcr12_el1(): u64;
export declare function msr_dbgbcr12_el1(value: u64): void;
export declare function mrs_dbgbcr13_el1(): u64;
export declare function msr_dbgbcr13_el1(value: u64): void;
export declare function mrs_dbgbcr14_el1(): u64;
export declare function msr_dbgbcr14_el1(value: u64): void;
export declare function mrs_dbgbcr15_el1(): u64;
export declare function msr_dbgbcr15_el1(value: u64): void;
export declare function mrs_dbgbvr0_el1(): u64;
export declare function msr_dbgbvr0_el1(value: u64): void;
export declare function mrs_dbgbvr1_el1(): u64;
export declare function msr_dbgbvr1_el1(value: u64): void;
export declare function mrs_dbgbvr2_el1(): u64;
export declare function msr_dbgbvr2_el1(value: u64): void;
export declare function mrs_dbgbvr3_el1(): u64;
export declare function msr_dbgbvr3_el1(value: u64): void;
export declare function mrs_dbgbvr4_el1(): u64;
export declare function msr_dbgbvr4_el1(value: u64): void;
export declare function mrs_dbgbvr5_el1(): u64;
export declare function msr_dbgbvr5_el1(value: u64): void;
export declare function mrs_dbgbvr6_el1(): u64;
export declare function msr_dbgbvr6_el1(value: u64): void;
export declare function mrs_dbgbvr7_el1(): u64;
export declare function msr_dbgbvr7_el1(value: u64): void;
export declare function mrs_dbgbvr8_el1(): u64;
export declare function msr_dbgbvr8_el1(value: u64): void;
export declare function mrs_dbgbvr9_el1(): u64;
export declare function msr_dbgbvr9_el1(value: u64): void;
export declare function mrs_dbgbvr10_el1(): u64;
export declare function msr_dbgbvr10_el1(value: u64): void;
export declare function mrs_dbgbvr11_el1(): u64;
export declare function msr_dbgbvr11_el1(value: u64): void;
export declare function mrs_dbgbvr12_el1(): u64;
export declare function msr_dbgbvr12_el1(value: u64): void;
export declare function mrs_dbgbvr13_el1(): u64;
export declare function msr_dbgbvr13_el1(value: u64): void;
export declare function mrs_dbgbvr14_el1(): u64;
export declare function msr_dbgbvr14_el1(value: u64): void;
export declare function mrs_dbgbvr15_el1(): u64;
export declare function msr_dbgbvr15_el1(value: u64): void;
export declare function mrs_dbgwcr0_el1(): u64;
export declare function msr_dbgwcr0_el1(value: u64): void;
export declare function mrs_dbgwcr1_el1(): u64;
export declare function msr_dbgwcr1_el1(value: u64): void;
export declare function mrs_dbgwcr2_el1(): u64;
export declare function msr_dbgwcr2_el1(value: u64): void;
export declare function mrs_dbgwcr3_el1(): u64;
export declare function msr_dbgwcr3_el1(value: u64): void;
export declare function mrs_dbgwcr4_el1(): u64;
export declare function msr_dbgwcr4_el1(value: u64): void;
export declare function mrs_dbgwcr5_el1(): u64;
export declare function msr_dbgwcr5_el1(value: u64): void;
export declare function mrs_dbgwcr6_el1(): u64;
export declare function msr_dbgwcr6_el1(value: u64): void;
export declare function mrs_dbgwcr7_el1(): u64;
export declare function msr_dbgwcr7_el1(value: u64): void;
export declare function mrs_dbgwcr8_el1(): u64;
export declare function msr_dbgwcr8_el1(value: u64): void;
export declare function mrs_dbgwcr9_el1(): u64;
export declare function msr_dbgwcr9_el1(value: u64): void;
export declare function mrs_dbgwcr10_el1(): u64;
export declare function msr_dbgwcr10_el1(value: u64): void;
export declare function mrs_dbgwcr11_el1(): u64;
export declare function msr_dbgwcr11_el1(value: u64): void;
export declare function mrs_dbgwcr12_el1(): u64;
export declare function msr_dbgwcr12_el1(value: u64): void;
export declare function mrs_dbgwcr13_el1(): u64;
export declare function msr_dbgwcr13_el1(value: u64): void;
export declare function mrs_dbgwcr14_el1(): u64;
export declare function msr_dbgwcr14_el1(value: u64): void;
export declare function mrs_dbgwcr15_el1(): u64;
export declare function msr_dbgwcr15_el1(value: u64): void;
export declare function mrs_dbgwvr0_el1(): u64;
export declare function msr_dbgwvr0_el1(value: u64): void;
export declare function mrs_dbgwvr1_el1(): u64;
export declare function msr_dbgwvr1_el1(value: u64): void;
export declare function mrs_dbgwvr2_el1(): u64;
export declare function msr_dbgwvr2_el1(value: u64): void;
export declare function mrs_dbgwvr3_el1(): u64;
export declare function msr_dbgwvr3_el1(value: u64): void;
export declare function mrs_dbgwvr4_el1(): u64;
export declare function msr_dbgwvr4_el1(value: u64): void;
export declare function mrs_dbgwvr5_el1(): u64;
export declare function msr_dbgwvr5_el1(value: u64): void;
export declare function mrs_dbgwvr6_el1(): u64;
export declare function msr_dbgwvr6_el1(value: u64): void;
export declare function mrs_dbgwvr7_el1(): u64;
export declare function msr_dbgwvr7_el1(value: u64): void;
export declare function mrs_dbgwvr8_el1(): u64;
export declare function msr_dbgwvr8_el1(value: u64): void;
export declare function mrs_dbgwvr9_el1(): u64;
export declare function msr_dbgwvr9_el1(value: u64): void;
export declare function mrs_dbgwvr10_el1(): u64;
export declare function msr_dbgwvr10_el1(value: u64): void;
export declare function mrs_dbgwvr11_el1(): u64;
export declare function msr_dbgwvr11_el1(value: u64): void;
export declare function mrs_dbgwvr12_el1(): u64;
export declare function msr_dbgwvr12_el1(value: u64): void;
export declare function mrs_dbgwvr13_el1(): u64;
export declare function msr_dbgwvr13_el1(value: u64): void;
export declare function mrs_dbgwvr14_el1(): u64;
export declare function msr_dbgwvr14_el1(value: u64): void;
export declare function mrs_dbgwvr15_el1(): u64;
export declare function msr_dbgwvr15_el1(value: u64): void;

// GIC CPU interface, hypervisor side.

export declare function msr_icc_sre_el1(value: u64): void;
export declare function mrs_icc_sre_el2(): u64;
export declare function msr_icc_sre_el2(value: u64): void;
export declare function msr_ich_hcr_el2(value: u64): void;
export declare function mrs_ich_vtr_el2(): u64;
export declare function mrs_ich_elrsr_el2(): u64;
export declare function mrs_ich_vmcr_el2(): u64;
export declare function msr_ich_vmcr_el2(value: u64): void;
export declare function mrs_ich_lr0_el2(): u64;
export declare function msr_ich_lr0_el2(value: u64): void;
export declare function mrs_ich_lr1_el2(): u64;
export declare function msr_ich_lr1_el2(value: u64): void;
export declare function mrs_ich_lr2_el2(): u64;
export declare function msr_ich_lr2_el2(value: u64): void;
export declare function mrs_ich_lr3_el2(): u64;
export declare function msr_ich_lr3_el2(value: u64): void;
export declare function mrs_ich_lr4_el2(): u64;
export declare function msr_ich_lr4_el2(value: u64): void;
export declare function mrs_ich_lr5_el2(): u64;
export declare function msr_ich_lr5_el2(value: u64): void;
export declare function mrs_ich_lr6_el2(): u64;
export declare function msr_ich_lr6_el2(value: u64): void;
export declare function mrs_ich_lr7_el2(): u64;
export declare function msr_ich_lr7_el2(value: u64): void;
export declare function mrs_ich_lr8_el2(): u64;
export declare function msr_ich_lr8_el2(value: u64): void;
export declare function mrs_ich_lr9_el2(): u64;
export declare function msr_ich_lr9_el2(value: u64): void;
export declare function mrs_ich_lr10_el2(): u64;
export declare function msr_ich_lr10_el2(value: u64): void;
export declare function mrs_ich_lr11_el2(): u64;
export declare function msr_ich_lr11_el2(value: u64): void;
export declare function mrs_ich_lr12_el2(): u64;
export declare function msr_ich_lr12_el2(value: u64): void;
export declare function mrs_ich_lr13_el2(): u64;
export declare function msr_ich_lr13_el2(value: u64): void;
export declare function mrs_ich_lr14_el2(): u64;
export declare function msr_ich_lr14_el2(value: u64): void;
export declare function mrs_ich_lr15_el2(): u64;
export declare function msr_ich_lr15_el2(value: u64): void;
export declare function mrs_ich_ap0r0_el2(): u64;
export declare function msr_ich_ap0r0_el2(value: u64): void;
export declare function mrs_ich_ap0r1_el2(): u64;
export declare function msr_ich_ap0r1_el2(value: u64): void;
export declare function mrs_ich_ap0r2_el2(): u64;
export declare function msr_ich_ap0r2_el2(value: u64): void;
export declare function mrs_ich_ap0r3_el2(): u64;
export declare function msr_ich_ap0r3_el2(value: u64): void;
export declare function mrs_ich_ap1r0_el2(): u64;
export declare function msr_ich_ap1r0_el2(value: u64): void;
export declare function mrs_ich_ap1r1_el2(): u64;
export declare function msr_ich_ap1r1_el2(value: u64): void;
export declare function mrs_ich_ap1r2_el2(): u64;
export declare function msr_ich_ap1r2_el2(value: u64): void;
export declare function mrs_ich_ap1r3_el2(): u64;
export declare function msr_ich_ap1r3_el2(value: u64): void;
