/**
 * TLB invalidation by VMID: the second half of every table update that takes a mapping away.
 *
 * The caller has written the table. Each operation waits until walkers see that write, invalidates, and waits until
 * no CPU uses the old translation (Arm ARM D8.14, sequence write, DSB, TLBI, DSB). TLB operations act on the VMID
 * in VTTBR_EL2, so it is exchanged for the invalidation and put back.
 */
import {
  dsb_ish,
  dsb_ishst,
  dsb_nsh,
  ic_iallu,
  isb,
  mrs_vttbr_el2,
  msr_vttbr_el2,
  tlbi_ipas2e1is,
  tlbi_vmalle1,
  tlbi_vmalle1is,
  tlbi_vmalls12e1is,
} from "./machine";

/** Invalidates, on every CPU, what the translation `vttbr` cached for the page or block that contains `ipa`. */
export function tlbFlushIpa(vttbr: u64, ipa: u64): void {
  const current = mrs_vttbr_el2();
  dsb_ishst();
  msr_vttbr_el2(vttbr);
  isb();
  tlbi_ipas2e1is(ipa >> 12);
  dsb_ish();
  tlbi_vmalle1is();
  dsb_ish();
  msr_vttbr_el2(current);
  isb();
}

/** Invalidates, on every CPU, everything cached for the VMID of `vttbr`. */
export function tlbFlushVmid(vttbr: u64): void {
  const current = mrs_vttbr_el2();
  dsb_ishst();
  msr_vttbr_el2(vttbr);
  isb();
  tlbi_vmalls12e1is();
  dsb_ish();
  msr_vttbr_el2(current);
  isb();
}

/** Invalidates, on this CPU alone, the stage 1 translations and instructions cached for the VMID of `vttbr`. */
export function tlbFlushLocal(vttbr: u64): void {
  const current = mrs_vttbr_el2();
  msr_vttbr_el2(vttbr);
  isb();
  tlbi_vmalle1();
  ic_iallu();
  dsb_nsh();
  msr_vttbr_el2(current);
  isb();
}
