/**
 * The firmware behind SMC: PSCI (Arm DEN0022) for the power of CPUs and of the machine, and the SMCCC calls that only
 * report. It believes its caller: whatever entry point it is given, a CPU starts there, at EL2.
 */

const SMC64 = 0x4000_0000;

/** PSCI and SMCCC function numbers, 32-bit form. */
export const Psci = {
  VERSION: 0x8400_0000,
  CPU_SUSPEND: 0x8400_0001,
  CPU_OFF: 0x8400_0002,
  CPU_ON: 0x8400_0003,
  AFFINITY_INFO: 0x8400_0004,
  MIGRATE: 0x8400_0005,
  SYSTEM_OFF: 0x8400_0008,
  SYSTEM_RESET: 0x8400_0009,
  PSCI_FEATURES: 0x8400_000a,
  CPU_FREEZE: 0x8400_000b,
  CPU_DEFAULT_SUSPEND: 0x8400_000c,
  NODE_HW_STATE: 0x8400_000d,
  SYSTEM_SUSPEND: 0x8400_000e,
  SYSTEM_RESET2: 0x8400_0012,
  MEM_PROTECT: 0x8400_0013,
  SMCCC_VERSION: 0x8000_0000,
  ARCH_FEATURES: 0x8000_0001,
  ARCH_WORKAROUND_1: 0x8000_8000,
} as const;

/** Return values. */
export const PsciResult = {
  SUCCESS: 0n,
  NOT_SUPPORTED: -1n,
  INVALID_PARAMETERS: -2n,
  DENIED: -3n,
  ALREADY_ON: -4n,
} as const;

/** The form of a function number that takes 64-bit arguments. */
export function smc64(id: number): number {
  return (id | SMC64) >>> 0;
}

/** Where a CPU begins, at EL2, with `context` in x0. */
export interface Start {
  readonly entry: bigint;
  readonly context: bigint;
}

/** What an SMC did beside its result. */
export interface SmcOutcome {
  /** x0 to x3. */
  readonly results: readonly bigint[];
  /** A CPU that starts now. */
  readonly starts?: { readonly cpu: number } & Start;
  /** The calling CPU lost its power, and comes back by `resume` when something wakes it. */
  readonly off?: { readonly resume: Start | undefined };
  /** The machine is off. */
  readonly powerOff?: boolean;
}

export class Firmware {
  /** CPUs that have power. */
  readonly on: boolean[];
  /** Calls that came through, newest last: the function and who called. */
  readonly calls: { readonly cpu: number; readonly id: number }[] = [];
  /** Whether CPU_SUSPEND takes the power away, as the caller's power state asks, or only waits. */
  deepSleep = true;

  private readonly affinities: readonly bigint[];

  /** @param affinities MPIDR_EL1 affinity fields of each CPU; the first one has power */
  constructor(affinities: readonly bigint[]) {
    this.affinities = affinities;
    this.on = affinities.map((_, cpu) => cpu === 0);
  }

  /** SMC by `cpu` with x0..x3 and further registers in `x`. */
  call(cpu: number, x: readonly bigint[]): SmcOutcome {
    const id = Number((x[0] ?? 0n) & 0xffff_ffffn);
    const wide = (id & SMC64) !== 0;
    const arg = (n: number) => (wide ? (x[n] ?? 0n) : (x[n] ?? 0n) & 0xffff_ffffn);
    this.calls.push({ cpu, id });
    const answer = (result: bigint): SmcOutcome => ({ results: [result, 0n, 0n, 0n] });
    const off = (entry: number): SmcOutcome => {
      this.on[cpu] = false;
      return { results: [], off: { resume: { entry: arg(entry), context: arg(entry + 1) } } };
    };
    switch ((id & ~SMC64) >>> 0) {
      case Psci.VERSION:
        return answer(0x1_0001n);
      case Psci.SMCCC_VERSION:
        return answer(0x1_0002n);
      case Psci.CPU_ON: {
        const target = this.affinities.indexOf(arg(1));
        if (target < 0) return answer(PsciResult.INVALID_PARAMETERS);
        if (this.on[target]) return answer(PsciResult.ALREADY_ON);
        this.on[target] = true;
        const starts = { cpu: target, entry: arg(2), context: arg(3) };
        return { results: [PsciResult.SUCCESS, 0n, 0n, 0n], starts };
      }
      case Psci.CPU_OFF:
        this.on[cpu] = false;
        return { results: [], off: { resume: undefined } };
      case Psci.CPU_SUSPEND:
        if (!this.deepSleep || (arg(1) & (1n << 16n)) === 0n) return answer(PsciResult.SUCCESS);
        return off(2);
      case Psci.CPU_DEFAULT_SUSPEND:
        return this.deepSleep ? off(1) : answer(PsciResult.SUCCESS);
      case Psci.SYSTEM_SUSPEND:
        if (this.on.filter((power) => power).length > 1) return answer(PsciResult.DENIED);
        return off(1);
      case Psci.AFFINITY_INFO: {
        const target = this.affinities.indexOf(arg(1));
        if (target < 0) return answer(PsciResult.INVALID_PARAMETERS);
        return answer(this.on[target] ? 0n : 1n);
      }
      case Psci.SYSTEM_OFF:
      case Psci.SYSTEM_RESET:
      case Psci.SYSTEM_RESET2:
        this.on.fill(false);
        return { results: [], powerOff: true };
      case Psci.PSCI_FEATURES:
      case Psci.ARCH_FEATURES:
        return answer(0n);
      default:
        return answer(PsciResult.NOT_SUPPORTED);
    }
  }
}
