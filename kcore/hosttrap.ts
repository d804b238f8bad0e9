/**
 * Traps from the host: its calls, its firmware calls, and its touching memory that is not its own.
 *
 * A touched page that the host may have is mapped. Of a page it must not have, user space and the kernel's accesses on
 * its behalf learn by SIGSEGV and EFAULT: the core forges a translation fault at an address that no mapping can
 * have. The host kernel itself may still hold a private page in its own map and copy it around for a debugger or for
 * migration; for these accesses the page reads as zero and ignores writes, because a fault would kill the kernel.
 */
import { exceptionPstate, PSTATE_EL0T, pstateAfter, syncVector } from "./exception";
import { Class, classOf, ISS_WNR, RESUME_HOST } from "./guesttrap";
import { hostCall } from "./hostcall";
import { translate } from "./hostmem";
import { acquire, LOCK_S2PAGE, release } from "./lock";
import {
  host_read32,
  mrs_elr_el2,
  mrs_esr_el2,
  mrs_far_el2,
  mrs_hpfar_el2,
  mrs_sctlr_el1,
  mrs_spsr_el2,
  mrs_vbar_el1,
  msr_elr_el1,
  msr_elr_el2,
  msr_esr_el1,
  msr_far_el1,
  msr_spsr_el1,
  msr_spsr_el2,
} from "./machine";
import { mapForHost } from "./memory";
import { Cpu, hostReg, setHostReg } from "./percpu";
import { hostSmc } from "./psci";
import { isHostPage, isRam, s2pageIndex } from "./s2page";
import { Event, trace } from "./trace";
import { Reclaim, reclaim } from "./vm";

const ISS_S1PTW: u64 = 1 << 7;
const ISS_CM: u64 = 1 << 8;
const ESR_IL: u64 = 1 << 25;
/** Fault status: type without level. */
const FSC_TYPE: u64 = 0x3c;
const FSC_TRANSLATION: u64 = 0x04;
/** Fault status codes: translation and permission fault at level 3, external abort on a walk at level 3. */
const FSC_TRANSLATION_L3: u64 = 0x07;
const FSC_PERMISSION_L3: u64 = 0x0f;
const FSC_EXTERNAL_WALK_L3: u64 = 0x17;
/** An address in the first page, which Linux never maps (vm.mmap_min_addr). */
const UNMAPPED_VA: u64 = 8;
/** Set in addresses of the upper half, the kernel's. */
const KERNEL_VA: u64 = 1 << 55;

/** Makes the host take a synchronous exception with this syndrome and fault address. */
function inject(esr: u64, far: u64): void {
  const pstate = mrs_spsr_el2();
  msr_esr_el1(esr);
  msr_far_el1(far);
  msr_elr_el1(mrs_elr_el2());
  msr_spsr_el1(pstate);
  msr_elr_el2(syncVector(mrs_vbar_el1(), pstate));
  msr_spsr_el2(exceptionPstate(pstate, mrs_sctlr_el1()));
}

/** True when the context that trapped is user space. */
function fromUser(pstate: u64): bool {
  return (pstate & 0xf) == PSTATE_EL0T;
}

/** Refuses an access of the host: see the head of this file. */
function injectAbort(esr: u64, far: u64): void {
  const same: u64 = fromUser(mrs_spsr_el2()) ? 0 : 1;
  let fault = FSC_TRANSLATION_L3;
  let address = UNMAPPED_VA;
  if ((far & KERNEL_VA) != 0) {
    fault = (esr & ISS_S1PTW) != 0 ? FSC_EXTERNAL_WALK_L3 : FSC_PERMISSION_L3;
    address = far;
  }
  inject(((classOf(esr) + same) << 26) | ESR_IL | (esr & ISS_WNR) | fault, address);
}

/** An instruction the host has no business with: undefined. */
function injectUndefined(): void {
  inject(ESR_IL, 0);
}

/** The host kernel's instruction at `va`, or 0 when it does not lie in a page of the host. An instruction lies in one page. */
function instructionAt(va: u64): u32 {
  const pa = translate(va & ~3);
  let instruction: u32 = 0;
  acquire(LOCK_S2PAGE);
  if (pa != 0 && isRam(pa) && isHostPage(s2pageIndex(pa))) instruction = host_read32(pa);
  release(LOCK_S2PAGE);
  return instruction;
}

/** Register field of an instruction. */
function field(instruction: u32, shift: u32): u32 {
  return (instruction >> shift) & 31;
}

/** x`n` of the host becomes 0; the zero register stays what it is. */
function loadZero(cpu: Cpu, n: u32): void {
  if (n != 31) setHostReg(cpu, n, 0);
}

/** Adds to the base register of a load or store with write-back. False for the stack pointer, which is not kept here. */
function writeBack(cpu: Cpu, n: u32, offset: i64): bool {
  if (n == 31) return false;
  setHostReg(cpu, n, hostReg(cpu, n) + offset);
  return true;
}

/**
 * LDP, STP, LDNP, STNP, LDPSW of general registers (Arm ARM C4.1.94, load/store register pair). False for STGP, which
 * stores tags, and for encodings that are none.
 */
function emulatePair(cpu: Cpu, instruction: u32): bool {
  const size = instruction >> 30;
  const isLoad = (instruction & (1 << 22)) != 0;
  const mode = (instruction >> 23) & 3;
  if (size == 3 || (size == 1 && (!isLoad || mode == 0))) return false;
  const scale: i64 = size == 2 ? 8 : 4;
  const offset = <i64>(<i32>(instruction << 10) >> 25) * scale;
  if ((mode & 1) != 0 && !writeBack(cpu, field(instruction, 5), offset)) return false;
  if (isLoad) {
    loadZero(cpu, field(instruction, 0));
    loadZero(cpu, field(instruction, 10));
  }
  return true;
}

/**
 * LDADD and its kin, SWP and LDAPR of one general register: what was in memory is loaded. False for the 64-byte
 * accesses and for others of the same group.
 */
function emulateAtomic(cpu: Cpu, instruction: u32): bool {
  const operation = (instruction >> 12) & 15;
  if (operation > 8 && operation != 12) return false;
  loadZero(cpu, field(instruction, 0));
  return true;
}

/**
 * LDR, STR and their kin of one general register: immediate offset with or without write-back, register offset,
 * unprivileged (Arm ARM C4.1.94, load/store register). False for PRFM, LDRAA and LDRAB, and for encodings that are none.
 */
function emulateSingle(cpu: Cpu, instruction: u32): bool {
  const scaled = (instruction & (1 << 24)) != 0;
  const form = (instruction >> 10) & 3;
  if (!scaled && (instruction & (1 << 21)) != 0) {
    if (form == 0) return emulateAtomic(cpu, instruction);
    if (form != 2) return false;
  }
  const size = instruction >> 30;
  const operation = (instruction >> 22) & 3;
  // 0 stores, 1 loads, 2 and 3 load with sign extension, which the larger sizes do not have.
  if (operation + size > 4) return false;
  const indexed = !scaled && (form & 1) != 0;
  const offset = <i64>(<i32>(instruction << 11) >> 23);
  if (indexed && !writeBack(cpu, field(instruction, 5), offset)) return false;
  if (operation != 0) loadZero(cpu, field(instruction, 0));
  return true;
}

/** Goes on behind the host's instruction that trapped: it is done, also for a debugger that steps through it. */
function skipInstruction(): void {
  msr_elr_el2(mrs_elr_el2() + 4);
  msr_spsr_el2(pstateAfter(mrs_spsr_el2()));
}

/**
 * Carries out a load or store of the host kernel as if the page were zero and read-only. False when the instruction
 * is none that the kernel uses on memory of this kind.
 */
function emulateAccess(cpu: Cpu, esr: u64): bool {
  const instruction = instructionAt(mrs_elr_el2());
  let done = (esr & ISS_CM) != 0 || (instruction & ~31) == 0xd50b_7420;
  if ((instruction & 0x3e00_0000) == 0x2800_0000) done = emulatePair(cpu, instruction);
  else if ((instruction & 0x3e00_0000) == 0x3800_0000) done = emulateSingle(cpu, instruction);
  if (done) skipInstruction();
  return done;
}

/** A stage 2 fault of the host. */
function hostAbort(cpu: Cpu, esr: u64): void {
  if ((esr & FSC_TYPE) != FSC_TRANSLATION) {
    injectAbort(esr, mrs_far_el2());
    return;
  }
  const ipa = (mrs_hpfar_el2() & ~0xf) << 8;
  const far = mrs_far_el2();
  if (mapForHost(ipa)) return;
  const outcome = isRam(ipa) ? reclaim(ipa) : Reclaim.REFUSED;
  if (outcome == Reclaim.RETURNED) {
    trace(cpu, Event.PAGE_RETURNED, ipa, far, 0);
    return;
  }
  const kernelData =
    classOf(esr) == Class.DATA_ABORT_LOWER &&
    (far & KERNEL_VA) != 0 &&
    (esr & ISS_S1PTW) == 0 &&
    !fromUser(mrs_spsr_el2());
  if (outcome == Reclaim.LIVE && kernelData && emulateAccess(cpu, esr)) return;
  trace(cpu, Event.HOST_ABORT_REFUSED, ipa, far, esr);
  injectAbort(esr, far);
}

/** A trap taken from the host. Returns where to go on: RESUME_HOST or RESUME_GUEST. */
export function hostTrap(cpu: Cpu): u32 {
  const esr = mrs_esr_el2();
  const kind = classOf(esr);
  if (kind == Class.HVC64) return hostCall(cpu);
  if (kind == Class.DATA_ABORT_LOWER || kind == Class.INSTRUCTION_ABORT_LOWER) {
    hostAbort(cpu, esr);
  } else if (kind == Class.SMC64) {
    skipInstruction();
    hostSmc(cpu);
  } else {
    injectUndefined();
  }
  return RESUME_HOST;
}
