/**
 * Firmware calls of the host: power control passes through the core, so that every CPU enters and leaves the host by
 * way of the core (Arm DEN0022 PSCI, DEN0028 SMCCC). Calls outside the list here never reach the firmware, which might
 * be asked to touch memory on the host's behalf.
 */
import { BOOT_INFO_MPIDR, bootInfo } from "./bootinfo";
import { PSCI_RET_ALREADY_ON, PSCI_RET_INVALID_PARAMS, SMCCC_RET_NOT_SUPPORTED } from "./errno";
import { MAX_CPUS } from "./layout";
import { acquire, LOCK_PSCI, release } from "./lock";
import { smc } from "./machine";
import { Cpu, cpuArea, hostFrame, hostReg, setHostReg } from "./percpu";
import { Event, trace } from "./trace";

const SMCCC_64: u64 = 1 << 30;
const LOW_HALF: u64 = 0xffff_ffff;
const PSCI_BASE: u64 = 0x8400_0000;
const PSCI_CPU_SUSPEND: u64 = 0x8400_0001;
const PSCI_CPU_ON: u64 = 0x8400_0003;
const PSCI_SYSTEM_SUSPEND: u64 = 0x8400_000e;
/**
 * The PSCI functions without an entry point, bit n for function n: PSCI_VERSION, CPU_OFF, AFFINITY_INFO, MIGRATE and its
 * two queries, SYSTEM_OFF, SYSTEM_RESET, PSCI_FEATURES, NODE_HW_STATE, PSCI_SET_SUSPEND_MODE, PSCI_STAT_RESIDENCY and
 * _COUNT, SYSTEM_RESET2, MEM_PROTECT and MEM_PROTECT_CHECK_RANGE.
 */
const PSCI_FORWARDED: u64 = 0x001f_a7f5;
/** SMCCC_VERSION, SMCCC_ARCH_FEATURES and SMCCC_ARCH_SOC_ID; then the four SMCCC_ARCH_WORKAROUNDs. */
const ARCH_BASE: u64 = 0x8000_0000;
const ARCH_FUNCTIONS: u64 = 3;
const ARCH_WORKAROUND_1: u64 = 0x8000_8000;
const ARCH_WORKAROUND_2: u64 = 0x8000_7fff;
const ARCH_WORKAROUND_3: u64 = 0x8000_3fff;
const ARCH_WORKAROUND_4: u64 = 0x8000_0004;
const TRNG_BASE: u64 = 0x8400_0050;
const TRNG_FUNCTIONS: u64 = 4;

/** Affinity fields of MPIDR_EL1. */
const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;

function isIn(id: u64, base: u64, count: u64): bool {
  return id - base < count;
}

/** True for mitigations of speculation on the calling CPU. */
function isWorkaround(id: u64): bool {
  return (
    id == ARCH_WORKAROUND_1 || id == ARCH_WORKAROUND_2 || id == ARCH_WORKAROUND_3 || id == ARCH_WORKAROUND_4
  );
}

/** True for calls that do nothing but report, or mitigate on the calling CPU. */
function isHarmless(id: u64): bool {
  return (
    isIn(id, ARCH_BASE, ARCH_FUNCTIONS) || isWorkaround(id) || isIn(id & ~SMCCC_64, TRNG_BASE, TRNG_FUNCTIONS)
  );
}

/** True for power control that names no place to go on at, so that firmware may be asked as it is. */
function isForwarded(psci: u64): bool {
  return isIn(psci, PSCI_BASE, 32) && ((PSCI_FORWARDED >> (psci - PSCI_BASE)) & 1) != 0;
}

/** Argument `n` of the host's SMC: calls of the 32-bit convention have halves of registers. */
function argument(cpu: Cpu, n: u32): u64 {
  const wide = (hostReg(cpu, 0) & SMCCC_64) != 0;
  return wide ? hostReg(cpu, n) : hostReg(cpu, n) & LOW_HALF;
}

/**
 * Makes the host's call with the core's own entry point in x`entry` and `context` behind it: always by the 64-bit
 * convention, for in the other one firmware would cut the address.
 */
function smcWithEntry(cpu: Cpu, entry: u32, context: u64): void {
  setHostReg(cpu, 0, (hostReg(cpu, 0) & LOW_HALF) | SMCCC_64);
  setHostReg(cpu, entry, bootInfo.secondaryEntry);
  setHostReg(cpu, entry + 1, context);
  smc(hostFrame(cpu));
}

/** Position of the CPU with these affinity fields in the boot tool's list, or `MAX_CPUS`. */
function cpuIndexOf(mpidr: u64): u32 {
  for (let i: u32 = 0; i < MAX_CPUS && i < <u32>bootInfo.cpus; i++) {
    if (load<u64>(BOOT_INFO_MPIDR + ((<usize>i) << 3)) == mpidr) return i;
  }
  return MAX_CPUS;
}

/** CPU_ON: the target starts in the core, and then where the host asked. */
function cpuOn(cpu: Cpu): void {
  const mpidr = argument(cpu, 1);
  const index = (mpidr & ~MPIDR_AFFINITY) == 0 ? cpuIndexOf(mpidr) : MAX_CPUS;
  if (index == MAX_CPUS) {
    setHostReg(cpu, 0, PSCI_RET_INVALID_PARAMS);
    return;
  }
  const target = cpuArea(index);
  acquire(LOCK_PSCI);
  if (target.bootPending != 0) {
    setHostReg(cpu, 0, PSCI_RET_ALREADY_ON);
  } else {
    target.bootEntry = argument(cpu, 2);
    target.bootContext = argument(cpu, 3);
    target.bootPending = 1;
    setHostReg(cpu, 1, mpidr);
    smcWithEntry(cpu, 2, index);
    if (hostReg(cpu, 0) != 0) target.bootPending = 0;
    trace(cpu, Event.CPU_ON, index, target.bootEntry, hostReg(cpu, 0));
  }
  release(LOCK_PSCI);
}

/** CPU_SUSPEND and SYSTEM_SUSPEND: a CPU that lost power comes back through the core. `entry` is the register of it. */
function suspend(cpu: Cpu, entry: u32): void {
  acquire(LOCK_PSCI);
  cpu.bootEntry = argument(cpu, entry);
  cpu.bootContext = argument(cpu, entry + 1);
  cpu.bootPending = 1;
  release(LOCK_PSCI);
  smcWithEntry(cpu, entry, cpu.index);
  acquire(LOCK_PSCI);
  cpu.bootPending = 0;
  release(LOCK_PSCI);
}

/** Handles an SMC of the host; its arguments are in the host's registers. */
export function hostSmc(cpu: Cpu): void {
  const id = hostReg(cpu, 0) & LOW_HALF;
  const psci = id & ~SMCCC_64;
  if (psci == PSCI_CPU_ON) cpuOn(cpu);
  else if (psci == PSCI_CPU_SUSPEND) suspend(cpu, 2);
  else if (psci == PSCI_SYSTEM_SUSPEND) suspend(cpu, 1);
  else if (isForwarded(psci) || isHarmless(id)) smc(hostFrame(cpu));
  else {
    trace(cpu, Event.HOST_SMC_REFUSED, id, hostReg(cpu, 1), hostReg(cpu, 2));
    setHostReg(cpu, 0, SMCCC_RET_NOT_SUPPORTED);
  }
}
