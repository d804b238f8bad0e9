/*
 * The primitives of machine.ts: each the body of one import of kcore.wasm. None decides anything.
 */
#ifndef KCORE_PRIMITIVES_H
#define KCORE_PRIMITIVES_H

#include "wasm.h"

#define PRIMITIVE(result, name, ...) INLINE result w2c_machine_##name(struct w2c_machine *machine __VA_OPT__(,) __VA_ARGS__)
#define ASM(...) (void)machine; __asm__ volatile(__VA_ARGS__)
#define AT(type, address) (*(volatile type *)(address))

/* Routines of routines.S. */
void zero_page(u64 pa);
void clean_page(u64 pa);
void save_fp(void *image);
void load_fp(const void *image);
void save_sve(u64 state, u64 fpsr);
void load_sve(u64 state, u64 fpsr);
void call_smc(u64 *frame);
void halt_machine(void);

/* The owner table, at a virtual address of its own; the exception vectors of the host, then those of guests. */
#define OWNER_TABLE 0x400000000000ull
extern char vectors[];

/* Table memory. */
PRIMITIVE(u64, pt_read, u64 pa) { (void)machine; return AT(u64, pa); }
PRIMITIVE(void, pt_write, u64 pa, u64 descriptor) { (void)machine; AT(u64, pa) = descriptor; }
PRIMITIVE(void, pt_zero, u64 pa) { (void)machine; zero_page(pa); }

/* Owner table. */
PRIMITIVE(u64, s2page_read, u64 index) { (void)machine; return AT(u64, OWNER_TABLE + (index << 3)); }
PRIMITIVE(void, s2page_write, u64 index, u64 entry) { (void)machine; AT(u64, OWNER_TABLE + (index << 3)) = entry; }

/* Page contents. */
PRIMITIVE(void, page_zero, u64 pa) { (void)machine; zero_page(pa); }
PRIMITIVE(void, page_clean, u64 pa) { (void)machine; clean_page(pa); }

/* Host memory. */
PRIMITIVE(u32, host_read8, u64 pa) { (void)machine; return AT(u8, pa); }
PRIMITIVE(u32, host_read32, u64 pa) { (void)machine; return AT(u32, pa); }
PRIMITIVE(u64, host_read64, u64 pa) { (void)machine; return AT(u64, pa); }
PRIMITIVE(void, host_write8, u64 pa, u32 value) { (void)machine; AT(u8, pa) = (u8)value; }
PRIMITIVE(void, host_write32, u64 pa, u32 value) { (void)machine; AT(u32, pa) = value; }
PRIMITIVE(void, host_write64, u64 pa, u64 value) { (void)machine; AT(u64, pa) = value; }
PRIMITIVE(void, host_read_frame, u32 frame, u64 pa) { (void)machine; __builtin_memcpy(linear(frame, 248), (const void *)pa, 248); }
PRIMITIVE(void, host_write_frame, u64 pa, u32 frame) { (void)machine; __builtin_memcpy((void *)pa, linear(frame, 248), 248); }

/* FP/SIMD and SVE registers. */
PRIMITIVE(void, fp_save, u32 image) { (void)machine; save_fp(linear(image, 528)); }
PRIMITIVE(void, fp_load, u32 image) { (void)machine; load_fp(linear(image, 528)); }
PRIMITIVE(void, fp_save_host, u64 pa) { (void)machine; save_fp((void *)pa); }
PRIMITIVE(void, fp_load_host, u64 pa) { (void)machine; load_fp((const void *)pa); }
PRIMITIVE(void, sve_save_host, u64 pa, u64 fpsr) { (void)machine; save_sve(pa, fpsr); }
PRIMITIVE(void, sve_load_host, u64 pa, u64 fpsr) { (void)machine; load_sve(pa, fpsr); }

/* Barriers, TLB and instruction cache maintenance. */
PRIMITIVE(void, isb) { ASM("isb" ::: "memory"); }
PRIMITIVE(void, dsb_nsh) { ASM("dsb nsh" ::: "memory"); }
PRIMITIVE(void, dsb_ish) { ASM("dsb ish" ::: "memory"); }
PRIMITIVE(void, dsb_ishst) { ASM("dsb ishst" ::: "memory"); }
PRIMITIVE(void, tlbi_ipas2e1is, u64 page) { ASM("tlbi ipas2e1is, %0" :: "r"(page) : "memory"); }
PRIMITIVE(void, tlbi_vmalle1is) { ASM("tlbi vmalle1is" ::: "memory"); }
PRIMITIVE(void, tlbi_vmalls12e1is) { ASM("tlbi vmalls12e1is" ::: "memory"); }
PRIMITIVE(void, tlbi_vmalle1) { ASM("tlbi vmalle1" ::: "memory"); }
PRIMITIVE(void, tlbi_alle1is) { ASM("tlbi alle1is" ::: "memory"); }
PRIMITIVE(void, ic_iallu) { ASM("ic iallu" ::: "memory"); }
PRIMITIVE(void, ic_ialluis) { ASM("ic ialluis" ::: "memory"); }
PRIMITIVE(void, psb_csync) { ASM("hint #17" ::: "memory"); }
PRIMITIVE(void, tsb_csync) { ASM("hint #18" ::: "memory"); }
PRIMITIVE(void, at_s1e1r, u64 va) { ASM("at s1e1r, %0" :: "r"(va) : "memory"); }

/* Firmware. */
PRIMITIVE(void, smc, u32 frame) { (void)machine; call_smc((u64 *)linear(frame, 248)); }
PRIMITIVE(void, halt) { (void)machine; halt_machine(); }

/* System registers. Names that the assembler does not know are given by encoding (Arm ARM D24). */
#define READ(name, register) \
  PRIMITIVE(u64, mrs_##name) { u64 value; ASM("mrs %0, " register : "=r"(value)); return value; }
#define WRITE(name, register) \
  PRIMITIVE(void, msr_##name, u64 value) { ASM("msr " register ", %x0" :: "rZ"(value)); }
#define READ_WRITE(name, register) READ(name, register) WRITE(name, register)

PRIMITIVE(void, msr_vbar_el2, u64 which) { ASM("msr vbar_el2, %0" :: "r"(vectors + (which << 11))); }
READ(mpidr_el1, "mpidr_el1")
READ(midr_el1, "midr_el1")
READ(id_aa64pfr0_el1, "id_aa64pfr0_el1")
READ(id_aa64pfr1_el1, "id_aa64pfr1_el1")
READ(id_aa64dfr0_el1, "id_aa64dfr0_el1")
READ(id_aa64isar1_el1, "id_aa64isar1_el1")
READ(id_aa64isar2_el1, "S3_0_C0_C6_2")
READ(id_aa64mmfr0_el1, "id_aa64mmfr0_el1")
READ(id_aa64mmfr1_el1, "id_aa64mmfr1_el1")
READ(id_aa64mmfr2_el1, "id_aa64mmfr2_el1")
READ(id_aa64mmfr3_el1, "S3_0_C0_C7_3")
READ(esr_el2, "esr_el2")
READ(far_el2, "far_el2")
READ(hpfar_el2, "hpfar_el2")
READ_WRITE(elr_el2, "elr_el2")
READ_WRITE(spsr_el2, "spsr_el2")
READ_WRITE(hcr_el2, "hcr_el2")
WRITE(hcrx_el2, "S3_4_C1_C2_2")
WRITE(cptr_el2, "cptr_el2")
WRITE(mdcr_el2, "mdcr_el2")
WRITE(hstr_el2, "hstr_el2")
WRITE(cnthctl_el2, "cnthctl_el2")
WRITE(cntvoff_el2, "cntvoff_el2")
READ_WRITE(vttbr_el2, "vttbr_el2")
WRITE(vtcr_el2, "vtcr_el2")
WRITE(vpidr_el2, "vpidr_el2")
WRITE(vmpidr_el2, "vmpidr_el2")
WRITE(vsesr_el2, "S3_4_C5_C2_3")
READ_WRITE(vdisr_el2, "S3_4_C12_C1_1")
READ_WRITE(disr_el1, "S3_0_C12_C1_1")
READ(svcr, "S3_3_C4_C2_2")
READ_WRITE(smpri_el1, "S3_0_C1_C2_4")
READ_WRITE(tpidr2_el0, "S3_3_C13_C0_5")
WRITE(zcr_el2, "S3_4_C1_C2_0")
WRITE(smcr_el2, "S3_4_C1_C2_6")
WRITE(hfgrtr_el2, "S3_4_C1_C1_4")
WRITE(hfgwtr_el2, "S3_4_C1_C1_5")
WRITE(hfgitr_el2, "S3_4_C1_C1_6")
WRITE(hdfgrtr_el2, "S3_4_C3_C1_4")
WRITE(hdfgwtr_el2, "S3_4_C3_C1_5")
WRITE(hafgrtr_el2, "S3_4_C3_C1_6")
WRITE(pmscr_el2, "S3_4_C9_C9_0")
WRITE(lorc_el1, "S3_0_C10_C4_3")
READ_WRITE(sctlr_el1, "sctlr_el1")
READ_WRITE(cpacr_el1, "cpacr_el1")
READ_WRITE(ttbr0_el1, "ttbr0_el1")
READ_WRITE(ttbr1_el1, "ttbr1_el1")
READ_WRITE(tcr_el1, "tcr_el1")
READ_WRITE(tcr2_el1, "S3_0_C2_C0_3")
READ_WRITE(pir_el1, "S3_0_C10_C2_3")
READ_WRITE(pire0_el1, "S3_0_C10_C2_2")
READ_WRITE(por_el1, "S3_0_C10_C2_4")
READ_WRITE(por_el0, "S3_3_C10_C2_4")
READ_WRITE(esr_el1, "esr_el1")
READ_WRITE(afsr0_el1, "afsr0_el1")
READ_WRITE(afsr1_el1, "afsr1_el1")
READ_WRITE(far_el1, "far_el1")
READ_WRITE(mair_el1, "mair_el1")
READ_WRITE(vbar_el1, "vbar_el1")
READ_WRITE(contextidr_el1, "contextidr_el1")
READ_WRITE(amair_el1, "amair_el1")
READ_WRITE(cntkctl_el1, "cntkctl_el1")
READ_WRITE(par_el1, "par_el1")
READ_WRITE(tpidr_el1, "tpidr_el1")
READ_WRITE(sp_el1, "sp_el1")
READ_WRITE(elr_el1, "elr_el1")
READ_WRITE(spsr_el1, "spsr_el1")
READ_WRITE(mdscr_el1, "mdscr_el1")
READ_WRITE(mdccint_el1, "mdccint_el1")
READ_WRITE(zcr_el1, "S3_0_C1_C2_0")
READ_WRITE(sp_el0, "sp_el0")
READ_WRITE(tpidr_el0, "tpidr_el0")
READ_WRITE(tpidrro_el0, "tpidrro_el0")
READ_WRITE(apiakeylo_el1, "S3_0_C2_C1_0")
READ_WRITE(apiakeyhi_el1, "S3_0_C2_C1_1")
READ_WRITE(apibkeylo_el1, "S3_0_C2_C1_2")
READ_WRITE(apibkeyhi_el1, "S3_0_C2_C1_3")
READ_WRITE(apdakeylo_el1, "S3_0_C2_C2_0")
READ_WRITE(apdakeyhi_el1, "S3_0_C2_C2_1")
READ_WRITE(apdbkeylo_el1, "S3_0_C2_C2_2")
READ_WRITE(apdbkeyhi_el1, "S3_0_C2_C2_3")
READ_WRITE(apgakeylo_el1, "S3_0_C2_C3_0")
READ_WRITE(apgakeyhi_el1, "S3_0_C2_C3_1")
READ(pmcr_el0, "pmcr_el0")
WRITE(pmselr_el0, "pmselr_el0")
READ_WRITE(pmuserenr_el0, "pmuserenr_el0")
WRITE(pmcntenset_el0, "pmcntenset_el0")
WRITE(pmcntenclr_el0, "pmcntenclr_el0")
READ(pmbidr_el1, "S3_0_C9_C10_7")
READ(pmblimitr_el1, "S3_0_C9_C10_0")
READ_WRITE(pmscr_el1, "S3_0_C9_C9_0")
READ(trbidr_el1, "S3_0_C9_C11_7")
READ(trblimitr_el1, "S3_0_C9_C11_0")
READ_WRITE(trfcr_el1, "S3_0_C1_C2_1")
READ_WRITE(dbgbcr0_el1, "dbgbcr0_el1")
READ_WRITE(dbgbcr1_el1, "dbgbcr1_el1")
READ_WRITE(dbgbcr2_el1, "dbgbcr2_el1")
READ_WRITE(dbgbcr3_el1, "dbgbcr3_el1")
READ_WRITE(dbgbcr4_el1, "dbgbcr4_el1")
READ_WRITE(dbgbcr5_el1, "dbgbcr5_el1")
READ_WRITE(dbgbcr6_el1, "dbgbcr6_el1")
READ_WRITE(dbgbcr7_el1, "dbgbcr7_el1")
READ_WRITE(dbgbcr8_el1, "dbgbcr8_el1")
READ_WRITE(dbgbcr9_el1, "dbgbcr9_el1")
READ_WRITE(dbgbcr10_el1, "dbgbcr10_el1")
READ_WRITE(dbgbcr11_el1, "dbgbcr11_el1")
READ_WRITE(dbgbcr12_el1, "dbgbcr12_el1")
READ_WRITE(dbgbcr13_el1, "dbgbcr13_el1")
READ_WRITE(dbgbcr14_el1, "dbgbcr14_el1")
READ_WRITE(dbgbcr15_el1, "dbgbcr15_el1")
READ_WRITE(dbgbvr0_el1, "dbgbvr0_el1")
READ_WRITE(dbgbvr1_el1, "dbgbvr1_el1")
READ_WRITE(dbgbvr2_el1, "dbgbvr2_el1")
READ_WRITE(dbgbvr3_el1, "dbgbvr3_el1")
READ_WRITE(dbgbvr4_el1, "dbgbvr4_el1")
READ_WRITE(dbgbvr5_el1, "dbgbvr5_el1")
READ_WRITE(dbgbvr6_el1, "dbgbvr6_el1")
READ_WRITE(dbgbvr7_el1, "dbgbvr7_el1")
READ_WRITE(dbgbvr8_el1, "dbgbvr8_el1")
READ_WRITE(dbgbvr9_el1, "dbgbvr9_el1")
READ_WRITE(dbgbvr10_el1, "dbgbvr10_el1")
READ_WRITE(dbgbvr11_el1, "dbgbvr11_el1")
READ_WRITE(dbgbvr12_el1, "dbgbvr12_el1")
READ_WRITE(dbgbvr13_el1, "dbgbvr13_el1")
READ_WRITE(dbgbvr14_el1, "dbgbvr14_el1")
READ_WRITE(dbgbvr15_el1, "dbgbvr15_el1")
READ_WRITE(dbgwcr0_el1, "dbgwcr0_el1")
READ_WRITE(dbgwcr1_el1, "dbgwcr1_el1")
READ_WRITE(dbgwcr2_el1, "dbgwcr2_el1")
READ_WRITE(dbgwcr3_el1, "dbgwcr3_el1")
READ_WRITE(dbgwcr4_el1, "dbgwcr4_el1")
READ_WRITE(dbgwcr5_el1, "dbgwcr5_el1")
READ_WRITE(dbgwcr6_el1, "dbgwcr6_el1")
READ_WRITE(dbgwcr7_el1, "dbgwcr7_el1")
READ_WRITE(dbgwcr8_el1, "dbgwcr8_el1")
READ_WRITE(dbgwcr9_el1, "dbgwcr9_el1")
READ_WRITE(dbgwcr10_el1, "dbgwcr10_el1")
READ_WRITE(dbgwcr11_el1, "dbgwcr11_el1")
READ_WRITE(dbgwcr12_el1, "dbgwcr12_el1")
READ_WRITE(dbgwcr13_el1, "dbgwcr13_el1")
READ_WRITE(dbgwcr14_el1, "dbgwcr14_el1")
READ_WRITE(dbgwcr15_el1, "dbgwcr15_el1")
READ_WRITE(dbgwvr0_el1, "dbgwvr0_el1")
READ_WRITE(dbgwvr1_el1, "dbgwvr1_el1")
READ_WRITE(dbgwvr2_el1, "dbgwvr2_el1")
READ_WRITE(dbgwvr3_el1, "dbgwvr3_el1")
READ_WRITE(dbgwvr4_el1, "dbgwvr4_el1")
READ_WRITE(dbgwvr5_el1, "dbgwvr5_el1")
READ_WRITE(dbgwvr6_el1, "dbgwvr6_el1")
READ_WRITE(dbgwvr7_el1, "dbgwvr7_el1")
READ_WRITE(dbgwvr8_el1, "dbgwvr8_el1")
READ_WRITE(dbgwvr9_el1, "dbgwvr9_el1")
READ_WRITE(dbgwvr10_el1, "dbgwvr10_el1")
READ_WRITE(dbgwvr11_el1, "dbgwvr11_el1")
READ_WRITE(dbgwvr12_el1, "dbgwvr12_el1")
READ_WRITE(dbgwvr13_el1, "dbgwvr13_el1")
READ_WRITE(dbgwvr14_el1, "dbgwvr14_el1")
READ_WRITE(dbgwvr15_el1, "dbgwvr15_el1")
WRITE(icc_sre_el1, "S3_0_C12_C12_5")
READ_WRITE(icc_sre_el2, "S3_4_C12_C9_5")
WRITE(ich_hcr_el2, "S3_4_C12_C11_0")
READ(ich_vtr_el2, "S3_4_C12_C11_1")
READ(ich_elrsr_el2, "S3_4_C12_C11_5")
READ_WRITE(ich_vmcr_el2, "S3_4_C12_C11_7")
READ_WRITE(ich_lr0_el2, "S3_4_C12_C12_0")
READ_WRITE(ich_lr1_el2, "S3_4_C12_C12_1")
READ_WRITE(ich_lr2_el2, "S3_4_C12_C12_2")
READ_WRITE(ich_lr3_el2, "S3_4_C12_C12_3")
READ_WRITE(ich_lr4_el2, "S3_4_C12_C12_4")
READ_WRITE(ich_lr5_el2, "S3_4_C12_C12_5")
READ_WRITE(ich_lr6_el2, "S3_4_C12_C12_6")
READ_WRITE(ich_lr7_el2, "S3_4_C12_C12_7")
READ_WRITE(ich_lr8_el2, "S3_4_C12_C13_0")
READ_WRITE(ich_lr9_el2, "S3_4_C12_C13_1")
READ_WRITE(ich_lr10_el2, "S3_4_C12_C13_2")
READ_WRITE(ich_lr11_el2, "S3_4_C12_C13_3")
READ_WRITE(ich_lr12_el2, "S3_4_C12_C13_4")
READ_WRITE(ich_lr13_el2, "S3_4_C12_C13_5")
READ_WRITE(ich_lr14_el2, "S3_4_C12_C13_6")
READ_WRITE(ich_lr15_el2, "S3_4_C12_C13_7")
READ_WRITE(ich_ap0r0_el2, "S3_4_C12_C8_0")
READ_WRITE(ich_ap0r1_el2, "S3_4_C12_C8_1")
READ_WRITE(ich_ap0r2_el2, "S3_4_C12_C8_2")
READ_WRITE(ich_ap0r3_el2, "S3_4_C12_C8_3")
READ_WRITE(ich_ap1r0_el2, "S3_4_C12_C9_0")
READ_WRITE(ich_ap1r1_el2, "S3_4_C12_C9_1")
READ_WRITE(ich_ap1r2_el2, "S3_4_C12_C9_2")
READ_WRITE(ich_ap1r3_el2, "S3_4_C12_C9_3")

#endif
