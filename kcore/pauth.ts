/**
 * Pointer authentication keys, exchanged when the guest may use them (FEAT_PAuth). The host's wait in the per-CPU
 * area, a guest's in its vCPU context.
 */
import { HOST_KEYS } from "./layout";
import {
  host_read64,
  host_write64,
  mrs_apdakeyhi_el1,
  mrs_apdakeylo_el1,
  mrs_apdbkeyhi_el1,
  mrs_apdbkeylo_el1,
  mrs_apgakeyhi_el1,
  mrs_apgakeylo_el1,
  mrs_apiakeyhi_el1,
  mrs_apiakeylo_el1,
  mrs_apibkeyhi_el1,
  mrs_apibkeylo_el1,
  msr_apdakeyhi_el1,
  msr_apdakeylo_el1,
  msr_apdbkeyhi_el1,
  msr_apdbkeylo_el1,
  msr_apgakeyhi_el1,
  msr_apgakeylo_el1,
  msr_apiakeyhi_el1,
  msr_apiakeylo_el1,
  msr_apibkeyhi_el1,
  msr_apibkeylo_el1,
} from "./machine";
import { Cpu } from "./percpu";
import { profile } from "./profile";

@unmanaged
class Keys {
  apiakeylo: u64;
  apiakeyhi: u64;
  apibkeylo: u64;
  apibkeyhi: u64;
  apdakeylo: u64;
  apdakeyhi: u64;
  apdbkeylo: u64;
  apdbkeyhi: u64;
  apgakeylo: u64;
  apgakeyhi: u64;
}

function hostKeys(cpu: Cpu): Keys {
  return changetype<Keys>(changetype<usize>(cpu) + HOST_KEYS);
}

/** Puts the host's keys away and loads those of the guest whose context is at `context`, in host memory. */
export function loadGuestKeys(cpu: Cpu, context: u64): void {
  const keys = hostKeys(cpu);
  keys.apiakeylo = mrs_apiakeylo_el1();
  keys.apiakeyhi = mrs_apiakeyhi_el1();
  keys.apibkeylo = mrs_apibkeylo_el1();
  keys.apibkeyhi = mrs_apibkeyhi_el1();
  keys.apdakeylo = mrs_apdakeylo_el1();
  keys.apdakeyhi = mrs_apdakeyhi_el1();
  keys.apdbkeylo = mrs_apdbkeylo_el1();
  keys.apdbkeyhi = mrs_apdbkeyhi_el1();
  keys.apgakeylo = mrs_apgakeylo_el1();
  keys.apgakeyhi = mrs_apgakeyhi_el1();
  msr_apiakeylo_el1(host_read64(context + profile.apiakeyloEl1));
  msr_apiakeyhi_el1(host_read64(context + profile.apiakeyhiEl1));
  msr_apibkeylo_el1(host_read64(context + profile.apibkeyloEl1));
  msr_apibkeyhi_el1(host_read64(context + profile.apibkeyhiEl1));
  msr_apdakeylo_el1(host_read64(context + profile.apdakeyloEl1));
  msr_apdakeyhi_el1(host_read64(context + profile.apdakeyhiEl1));
  msr_apdbkeylo_el1(host_read64(context + profile.apdbkeyloEl1));
  msr_apdbkeyhi_el1(host_read64(context + profile.apdbkeyhiEl1));
  msr_apgakeylo_el1(host_read64(context + profile.apgakeyloEl1));
  msr_apgakeyhi_el1(host_read64(context + profile.apgakeyhiEl1));
}

/** Writes the guest's keys to its context and brings the host's back. */
export function saveGuestKeys(cpu: Cpu, context: u64): void {
  const keys = hostKeys(cpu);
  host_write64(context + profile.apiakeyloEl1, mrs_apiakeylo_el1());
  host_write64(context + profile.apiakeyhiEl1, mrs_apiakeyhi_el1());
  host_write64(context + profile.apibkeyloEl1, mrs_apibkeylo_el1());
  host_write64(context + profile.apibkeyhiEl1, mrs_apibkeyhi_el1());
  host_write64(context + profile.apdakeyloEl1, mrs_apdakeylo_el1());
  host_write64(context + profile.apdakeyhiEl1, mrs_apdakeyhi_el1());
  host_write64(context + profile.apdbkeyloEl1, mrs_apdbkeylo_el1());
  host_write64(context + profile.apdbkeyhiEl1, mrs_apdbkeyhi_el1());
  host_write64(context + profile.apgakeyloEl1, mrs_apgakeylo_el1());
  host_write64(context + profile.apgakeyhiEl1, mrs_apgakeyhi_el1());
  msr_apiakeylo_el1(keys.apiakeylo);
  msr_apiakeyhi_el1(keys.apiakeyhi);
  msr_apibkeylo_el1(keys.apibkeylo);
  msr_apibkeyhi_el1(keys.apibkeyhi);
  msr_apdakeylo_el1(keys.apdakeylo);
  msr_apdakeyhi_el1(keys.apdakeyhi);
  msr_apdbkeylo_el1(keys.apdbkeylo);
  msr_apdbkeyhi_el1(keys.apdbkeyhi);
  msr_apgakeylo_el1(keys.apgakeylo);
  msr_apgakeyhi_el1(keys.apgakeyhi);
}
