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
const PSCI_BASE: u64 = 0x8400_0000;
const PSCI_CPU_SUSPEND: u64 = 0x8400_0001;
const PSCI_CPU_ON: u64 = 0x8400_0003;
const PSCI_SYSTEM_SUSPEND: u64 = 0x8400_000e;
/** PSCI functions 0 to 31, in both widths. */
const PSCI_FUNCTIONS: u64 = 32;
/** SMCCC_VERSION, SMCCC_ARCH_FEATURES, SMCCC_ARCH_SOC_ID, SMCCC_ARCH_WORKAROUND_1 to _4 and the TRNG calls. */
const ARCH_BASE: u64 = 0x8000_0000;
const ARCH_FUNCTIONS: u64 = 3;
const WORKAROUND_LAST: u64 = 0x8000_7fff;
const WORKAROUND_FIRST: u64 = 0x8000_3ff0;
const TRNG_BASE: u64 = 0x8400_0050;
const TRNG_FUNCTIONS: u64 = 4;

/** Affinity fields of MPIDR_EL1. */
const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;

function isIn(id: u64, base: u64, count: u64): bool {
  return id - base < count;
}

/** True for calls that do nothing but report, or mitigate on the calling CPU. */
function isHarmless(id: u64): bool {
  return (
    isIn(id, ARCH_BASE, ARCH_FUNCTIONS) ||
    isIn(id, WORKAROUND_FIRST, WORKAROUND_LAST - WORKAROUND_FIRST + 1) ||
    isIn(id & ~SMCCC_64, TRNG_BASE, TRNG_FUNCTIONS)
  );
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
  const mpidr = hostReg(cpu, 1);
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
    target.bootEntry = hostReg(cpu, 2);
    target.bootContext = hostReg(cpu, 3);
    target.bootPending = 1;
    setHostReg(cpu, 2, bootInfo.secondaryEntry);
    setHostReg(cpu, 3, index);
    smc(hostFrame(cpu));
    if (hostReg(cpu, 0) != 0) target.bootPending = 0;
    trace(cpu, Event.CPU_ON, index, target.bootEntry, hostReg(cpu, 0));
  }
  release(LOCK_PSCI);
}

/** CPU_SUSPEND and SYSTEM_SUSPEND: a CPU that lost power comes back through the core. `entry` is the register of it. */
function suspend(cpu: Cpu, entry: u32): void {
  acquire(LOCK_PSCI);
  cpu.bootEntry = hostReg(cpu, entry);
  cpu.bootContext = hostReg(cpu, entry + 1);
  cpu.bootPending = 1;
  release(LOCK_PSCI);
  setHostReg(cpu, entry, bootInfo.secondaryEntry);
  setHostReg(cpu, entry + 1, cpu.index);
  smc(hostFrame(cpu));
  acquire(LOCK_PSCI);
  cpu.bootPending = 0;
  release(LOCK_PSCI);
}

/** Handles an SMC of the host; its arguments are in the host's registers. */
export function hostSmc(cpu: Cpu): void {
  const id = hostReg(cpu, 0) & 0xffff_ffff;
  const psci = id & ~SMCCC_64;
  if (psci == PSCI_CPU_ON) cpuOn(cpu);
  else if (psci == PSCI_CPU_SUSPEND) suspend(cpu, 2);
  else if (psci == PSCI_SYSTEM_SUSPEND) suspend(cpu, 1);
  else if (isIn(psci, PSCI_BASE, PSCI_FUNCTIONS) || isHarmless(id)) smc(hostFrame(cpu));
  else {
    trace(cpu, Event.HOST_SMC_REFUSED, id, hostReg(cpu, 1), hostReg(cpu, 2));
    setHostReg(cpu, 0, SMCCC_RET_NOT_SUPPORTED);
  }
}
