/**
 * Breakpoint and watchpoint registers: exchanged only while the guest uses them, which the host's DEBUG_DIRTY flag
 * says (arch/arm64/kvm/hyp/include/hyp/debug-sr.h). The host's wait in the per-CPU area; the guest's are in struct
 * kvm_guest_debug_arch, inside its struct kvm_vcpu.
 */
import { HOST_DEBUG } from "./layout";
import {
  host_read64,
  host_write64,
  mrs_dbgbcr0_el1,
  mrs_dbgbcr1_el1,
  mrs_dbgbcr2_el1,
  mrs_dbgbcr3_el1,
  mrs_dbgbcr4_el1,
  mrs_dbgbcr5_el1,
  mrs_dbgbcr6_el1,
  mrs_dbgbcr7_el1,
  mrs_dbgbcr8_el1,
  mrs_dbgbcr9_el1,
  mrs_dbgbcr10_el1,
  mrs_dbgbcr11_el1,
  mrs_dbgbcr12_el1,
  mrs_dbgbcr13_el1,
  mrs_dbgbcr14_el1,
  mrs_dbgbcr15_el1,
  mrs_dbgbvr0_el1,
  mrs_dbgbvr1_el1,
  mrs_dbgbvr2_el1,
  mrs_dbgbvr3_el1,
  mrs_dbgbvr4_el1,
  mrs_dbgbvr5_el1,
  mrs_dbgbvr6_el1,
  mrs_dbgbvr7_el1,
  mrs_dbgbvr8_el1,
  mrs_dbgbvr9_el1,
  mrs_dbgbvr10_el1,
  mrs_dbgbvr11_el1,
  mrs_dbgbvr12_el1,
  mrs_dbgbvr13_el1,
  mrs_dbgbvr14_el1,
  mrs_dbgbvr15_el1,
  mrs_dbgwcr0_el1,
  mrs_dbgwcr1_el1,
  mrs_dbgwcr2_el1,
  mrs_dbgwcr3_el1,
  mrs_dbgwcr4_el1,
  mrs_dbgwcr5_el1,
  mrs_dbgwcr6_el1,
  mrs_dbgwcr7_el1,
  mrs_dbgwcr8_el1,
  mrs_dbgwcr9_el1,
  mrs_dbgwcr10_el1,
  mrs_dbgwcr11_el1,
  mrs_dbgwcr12_el1,
  mrs_dbgwcr13_el1,
  mrs_dbgwcr14_el1,
  mrs_dbgwcr15_el1,
  mrs_dbgwvr0_el1,
  mrs_dbgwvr1_el1,
  mrs_dbgwvr2_el1,
  mrs_dbgwvr3_el1,
  mrs_dbgwvr4_el1,
  mrs_dbgwvr5_el1,
  mrs_dbgwvr6_el1,
  mrs_dbgwvr7_el1,
  mrs_dbgwvr8_el1,
  mrs_dbgwvr9_el1,
  mrs_dbgwvr10_el1,
  mrs_dbgwvr11_el1,
  mrs_dbgwvr12_el1,
  mrs_dbgwvr13_el1,
  mrs_dbgwvr14_el1,
  mrs_dbgwvr15_el1,
  mrs_mdccint_el1,
  msr_dbgbcr0_el1,
  msr_dbgbcr1_el1,
  msr_dbgbcr2_el1,
  msr_dbgbcr3_el1,
  msr_dbgbcr4_el1,
  msr_dbgbcr5_el1,
  msr_dbgbcr6_el1,
  msr_dbgbcr7_el1,
  msr_dbgbcr8_el1,
  msr_dbgbcr9_el1,
  msr_dbgbcr10_el1,
  msr_dbgbcr11_el1,
  msr_dbgbcr12_el1,
  msr_dbgbcr13_el1,
  msr_dbgbcr14_el1,
  msr_dbgbcr15_el1,
  msr_dbgbvr0_el1,
  msr_dbgbvr1_el1,
  msr_dbgbvr2_el1,
  msr_dbgbvr3_el1,
  msr_dbgbvr4_el1,
  msr_dbgbvr5_el1,
  msr_dbgbvr6_el1,
  msr_dbgbvr7_el1,
  msr_dbgbvr8_el1,
  msr_dbgbvr9_el1,
  msr_dbgbvr10_el1,
  msr_dbgbvr11_el1,
  msr_dbgbvr12_el1,
  msr_dbgbvr13_el1,
  msr_dbgbvr14_el1,
  msr_dbgbvr15_el1,
  msr_dbgwcr0_el1,
  msr_dbgwcr1_el1,
  msr_dbgwcr2_el1,
  msr_dbgwcr3_el1,
  msr_dbgwcr4_el1,
  msr_dbgwcr5_el1,
  msr_dbgwcr6_el1,
  msr_dbgwcr7_el1,
  msr_dbgwcr8_el1,
  msr_dbgwcr9_el1,
  msr_dbgwcr10_el1,
  msr_dbgwcr11_el1,
  msr_dbgwcr12_el1,
  msr_dbgwcr13_el1,
  msr_dbgwcr14_el1,
  msr_dbgwcr15_el1,
  msr_dbgwvr0_el1,
  msr_dbgwvr1_el1,
  msr_dbgwvr2_el1,
  msr_dbgwvr3_el1,
  msr_dbgwvr4_el1,
  msr_dbgwvr5_el1,
  msr_dbgwvr6_el1,
  msr_dbgwvr7_el1,
  msr_dbgwvr8_el1,
  msr_dbgwvr9_el1,
  msr_dbgwvr10_el1,
  msr_dbgwvr11_el1,
  msr_dbgwvr12_el1,
  msr_dbgwvr13_el1,
  msr_dbgwvr14_el1,
  msr_dbgwvr15_el1,
  msr_mdccint_el1,
} from "./machine";
import { Cpu } from "./percpu";
import { profile } from "./profile";
import { Vcpu } from "./records";

function readDbgbcr(n: u32): u64 {
  switch (n) {
    case 0:
      return mrs_dbgbcr0_el1();
    case 1:
      return mrs_dbgbcr1_el1();
    case 2:
      return mrs_dbgbcr2_el1();
    case 3:
      return mrs_dbgbcr3_el1();
    case 4:
      return mrs_dbgbcr4_el1();
    case 5:
      return mrs_dbgbcr5_el1();
    case 6:
      return mrs_dbgbcr6_el1();
    case 7:
      return mrs_dbgbcr7_el1();
    case 8:
      return mrs_dbgbcr8_el1();
    case 9:
      return mrs_dbgbcr9_el1();
    case 10:
      return mrs_dbgbcr10_el1();
    case 11:
      return mrs_dbgbcr11_el1();
    case 12:
      return mrs_dbgbcr12_el1();
    case 13:
      return mrs_dbgbcr13_el1();
    case 14:
      return mrs_dbgbcr14_el1();
    default:
      return mrs_dbgbcr15_el1();
  }
}

function writeDbgbcr(n: u32, value: u64): void {
  switch (n) {
    case 0:
      msr_dbgbcr0_el1(value);
      break;
    case 1:
      msr_dbgbcr1_el1(value);
      break;
    case 2:
      msr_dbgbcr2_el1(value);
      break;
    case 3:
      msr_dbgbcr3_el1(value);
      break;
    case 4:
      msr_dbgbcr4_el1(value);
      break;
    case 5:
      msr_dbgbcr5_el1(value);
      break;
    case 6:
      msr_dbgbcr6_el1(value);
      break;
    case 7:
      msr_dbgbcr7_el1(value);
      break;
    case 8:
      msr_dbgbcr8_el1(value);
      break;
    case 9:
      msr_dbgbcr9_el1(value);
      break;
    case 10:
      msr_dbgbcr10_el1(value);
      break;
    case 11:
      msr_dbgbcr11_el1(value);
      break;
    case 12:
      msr_dbgbcr12_el1(value);
      break;
    case 13:
      msr_dbgbcr13_el1(value);
      break;
    case 14:
      msr_dbgbcr14_el1(value);
      break;
    default:
      msr_dbgbcr15_el1(value);
  }
}

function readDbgbvr(n: u32): u64 {
  switch (n) {
    case 0:
      return mrs_dbgbvr0_el1();
    case 1:
      return mrs_dbgbvr1_el1();
    case 2:
      return mrs_dbgbvr2_el1();
    case 3:
      return mrs_dbgbvr3_el1();
    case 4:
      return mrs_dbgbvr4_el1();
    case 5:
      return mrs_dbgbvr5_el1();
    case 6:
      return mrs_dbgbvr6_el1();
    case 7:
      return mrs_dbgbvr7_el1();
    case 8:
      return mrs_dbgbvr8_el1();
    case 9:
      return mrs_dbgbvr9_el1();
    case 10:
      return mrs_dbgbvr10_el1();
    case 11:
      return mrs_dbgbvr11_el1();
    case 12:
      return mrs_dbgbvr12_el1();
    case 13:
      return mrs_dbgbvr13_el1();
    case 14:
      return mrs_dbgbvr14_el1();
    default:
      return mrs_dbgbvr15_el1();
  }
}

function writeDbgbvr(n: u32, value: u64): void {
  switch (n) {
    case 0:
      msr_dbgbvr0_el1(value);
      break;
    case 1:
      msr_dbgbvr1_el1(value);
      break;
    case 2:
      msr_dbgbvr2_el1(value);
      break;
    case 3:
      msr_dbgbvr3_el1(value);
      break;
    case 4:
      msr_dbgbvr4_el1(value);
      break;
    case 5:
      msr_dbgbvr5_el1(value);
      break;
    case 6:
      msr_dbgbvr6_el1(value);
      break;
    case 7:
      msr_dbgbvr7_el1(value);
      break;
    case 8:
      msr_dbgbvr8_el1(value);
      break;
    case 9:
      msr_dbgbvr9_el1(value);
      break;
    case 10:
      msr_dbgbvr10_el1(value);
      break;
    case 11:
      msr_dbgbvr11_el1(value);
      break;
    case 12:
      msr_dbgbvr12_el1(value);
      break;
    case 13:
      msr_dbgbvr13_el1(value);
      break;
    case 14:
      msr_dbgbvr14_el1(value);
      break;
    default:
      msr_dbgbvr15_el1(value);
  }
}

function readDbgwcr(n: u32): u64 {
  switch (n) {
    case 0:
      return mrs_dbgwcr0_el1();
    case 1:
      return mrs_dbgwcr1_el1();
    case 2:
      return mrs_dbgwcr2_el1();
    case 3:
      return mrs_dbgwcr3_el1();
    case 4:
      return mrs_dbgwcr4_el1();
    case 5:
      return mrs_dbgwcr5_el1();
    case 6:
      return mrs_dbgwcr6_el1();
    case 7:
      return mrs_dbgwcr7_el1();
    case 8:
      return mrs_dbgwcr8_el1();
    case 9:
      return mrs_dbgwcr9_el1();
    case 10:
      return mrs_dbgwcr10_el1();
    case 11:
      return mrs_dbgwcr11_el1();
    case 12:
      return mrs_dbgwcr12_el1();
    case 13:
      return mrs_dbgwcr13_el1();
    case 14:
      return mrs_dbgwcr14_el1();
    default:
      return mrs_dbgwcr15_el1();
  }
}

function writeDbgwcr(n: u32, value: u64): void {
  switch (n) {
    case 0:
      msr_dbgwcr0_el1(value);
      break;
    case 1:
      msr_dbgwcr1_el1(value);
      break;
    case 2:
      msr_dbgwcr2_el1(value);
      break;
    case 3:
      msr_dbgwcr3_el1(value);
      break;
    case 4:
      msr_dbgwcr4_el1(value);
      break;
    case 5:
      msr_dbgwcr5_el1(value);
      break;
    case 6:
      msr_dbgwcr6_el1(value);
      break;
    case 7:
      msr_dbgwcr7_el1(value);
      break;
    case 8:
      msr_dbgwcr8_el1(value);
      break;
    case 9:
      msr_dbgwcr9_el1(value);
      break;
    case 10:
      msr_dbgwcr10_el1(value);
      break;
    case 11:
      msr_dbgwcr11_el1(value);
      break;
    case 12:
      msr_dbgwcr12_el1(value);
      break;
    case 13:
      msr_dbgwcr13_el1(value);
      break;
    case 14:
      msr_dbgwcr14_el1(value);
      break;
    default:
      msr_dbgwcr15_el1(value);
  }
}

function readDbgwvr(n: u32): u64 {
  switch (n) {
    case 0:
      return mrs_dbgwvr0_el1();
    case 1:
      return mrs_dbgwvr1_el1();
    case 2:
      return mrs_dbgwvr2_el1();
    case 3:
      return mrs_dbgwvr3_el1();
    case 4:
      return mrs_dbgwvr4_el1();
    case 5:
      return mrs_dbgwvr5_el1();
    case 6:
      return mrs_dbgwvr6_el1();
    case 7:
      return mrs_dbgwvr7_el1();
    case 8:
      return mrs_dbgwvr8_el1();
    case 9:
      return mrs_dbgwvr9_el1();
    case 10:
      return mrs_dbgwvr10_el1();
    case 11:
      return mrs_dbgwvr11_el1();
    case 12:
      return mrs_dbgwvr12_el1();
    case 13:
      return mrs_dbgwvr13_el1();
    case 14:
      return mrs_dbgwvr14_el1();
    default:
      return mrs_dbgwvr15_el1();
  }
}

function writeDbgwvr(n: u32, value: u64): void {
  switch (n) {
    case 0:
      msr_dbgwvr0_el1(value);
      break;
    case 1:
      msr_dbgwvr1_el1(value);
      break;
    case 2:
      msr_dbgwvr2_el1(value);
      break;
    case 3:
      msr_dbgwvr3_el1(value);
      break;
    case 4:
      msr_dbgwvr4_el1(value);
      break;
    case 5:
      msr_dbgwvr5_el1(value);
      break;
    case 6:
      msr_dbgwvr6_el1(value);
      break;
    case 7:
      msr_dbgwvr7_el1(value);
      break;
    case 8:
      msr_dbgwvr8_el1(value);
      break;
    case 9:
      msr_dbgwvr9_el1(value);
      break;
    case 10:
      msr_dbgwvr10_el1(value);
      break;
    case 11:
      msr_dbgwvr11_el1(value);
      break;
    case 12:
      msr_dbgwvr12_el1(value);
      break;
    case 13:
      msr_dbgwvr13_el1(value);
      break;
    case 14:
      msr_dbgwvr14_el1(value);
      break;
    default:
      msr_dbgwvr15_el1(value);
  }
}

/** Bytes of sixteen registers. */
const BANK: u64 = 128;

/** Physical address of the guest's struct kvm_guest_debug_arch, or 0 when the host's pointer leads elsewhere. */
function guestDebug(vcpu: Vcpu): u64 {
  const offset = host_read64(vcpu.pa + profile.debugPtr) - vcpu.hva;
  const size = 4 * BANK + (profile.dbgBcr | profile.dbgBvr | profile.dbgWcr | profile.dbgWvr);
  return offset < profile.vcpuSize && offset + size <= profile.vcpuSize && (offset & 7) == 0
    ? vcpu.pa + offset
    : 0;
}

function hostDebug(cpu: Cpu, bank: u32, n: u32): usize {
  return changetype<usize>(cpu) + HOST_DEBUG + ((<usize>bank) << 7) + ((<usize>n) << 3);
}

/** Puts the host's registers away and loads the guest's. */
export function loadGuestDebug(cpu: Cpu, vcpu: Vcpu): void {
  const guest = guestDebug(vcpu);
  if (guest == 0) return;
  for (let n: u32 = 0; n < 16 && <u64>n <= cpu.lastBreakpoint; n++) {
    store<u64>(hostDebug(cpu, 0, n), readDbgbcr(n));
    store<u64>(hostDebug(cpu, 1, n), readDbgbvr(n));
    writeDbgbvr(n, host_read64(guest + profile.dbgBvr + (n << 3)));
    writeDbgbcr(n, host_read64(guest + profile.dbgBcr + (n << 3)));
  }
  for (let n: u32 = 0; n < 16 && <u64>n <= cpu.lastWatchpoint; n++) {
    store<u64>(hostDebug(cpu, 2, n), readDbgwcr(n));
    store<u64>(hostDebug(cpu, 3, n), readDbgwvr(n));
    writeDbgwvr(n, host_read64(guest + profile.dbgWvr + (n << 3)));
    writeDbgwcr(n, host_read64(guest + profile.dbgWcr + (n << 3)));
  }
  cpu.mdccintEl1 = mrs_mdccint_el1();
  msr_mdccint_el1(host_read64(vcpu.pa + profile.mdccintEl1));
  cpu.debugLoaded = 1;
}

/** Writes the guest's registers back and brings the host's back, after `loadGuestDebug` loaded them. */
export function saveGuestDebug(cpu: Cpu, vcpu: Vcpu): void {
  const guest = guestDebug(vcpu);
  for (let n: u32 = 0; n < 16 && <u64>n <= cpu.lastBreakpoint; n++) {
    if (guest != 0) {
      host_write64(guest + profile.dbgBcr + (n << 3), readDbgbcr(n));
      host_write64(guest + profile.dbgBvr + (n << 3), readDbgbvr(n));
    }
    writeDbgbvr(n, load<u64>(hostDebug(cpu, 1, n)));
    writeDbgbcr(n, load<u64>(hostDebug(cpu, 0, n)));
  }
  for (let n: u32 = 0; n < 16 && <u64>n <= cpu.lastWatchpoint; n++) {
    if (guest != 0) {
      host_write64(guest + profile.dbgWcr + (n << 3), readDbgwcr(n));
      host_write64(guest + profile.dbgWvr + (n << 3), readDbgwvr(n));
    }
    writeDbgwvr(n, load<u64>(hostDebug(cpu, 3, n)));
    writeDbgwcr(n, load<u64>(hostDebug(cpu, 2, n)));
  }
  host_write64(vcpu.pa + profile.mdccintEl1, mrs_mdccint_el1());
  msr_mdccint_el1(cpu.mdccintEl1);
  cpu.debugLoaded = 0;
}
