/**
 * Where a host kernel keeps its struct kvm and struct kvm_vcpu: a layout of its own for each seed, as kernels differ, and
 * the words of the core's Profile that describe it.
 */
import { layouts } from "./core.ts";

/** A source of numbers from a seed: the same ones each time (mulberry32). */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** A whole number from 0 to `bound` - 1. */
  below(bound: number): number {
    this.state = (this.state + 0x6d2b_79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % bound;
  }

  /** 64 random bits. */
  word(): bigint {
    return (
      (BigInt(this.below(2 ** 31)) << 33n) ^
      (BigInt(this.below(2 ** 31)) << 16n) ^
      BigInt(this.below(2 ** 16))
    );
  }

  /** One of `choices`. */
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }
}

/** Sizes of the members that are not one 64-bit word. */
const sizes: Readonly<Record<string, number>> = {
  regs: 272,
  fpRegs: 528,
  iflags: 1,
  cflags: 1,
  sveMaxVl: 4,
  pmuEventsHost: 4,
  pmuEventsGuest: 4,
  vgicHcr: 4,
  vgicVmcr: 4,
  vgicSre: 4,
  vgicAp0r: 16,
  vgicAp1r: 16,
  vgicLr: 128,
  vgicUsedLrs: 4,
  teardownPages: 8,
};

/** Bytes of struct kvm_guest_debug_arch: four banks of sixteen words. */
const DEBUG_SIZE = 512;

/** Bytes of a structure that the core wants behind its last member: see `checkProfile` in boot.ts. */
const VCPU_TAIL = 640;
const KVM_TAIL = 64;

export interface Structures {
  /** The core's Profile: offsets by the names of its fields. */
  readonly profile: Readonly<Record<string, number>>;
  /** Where kvm_vcpu keeps the guest's breakpoint registers; debug_ptr leads there. */
  readonly debugRegisters: number;
}

/** Members of struct kvm, and those that describe a structure as a whole. */
const kvmMembers = ["createdVcpus", "mmu", "mmuPgdPhys", "mmuVtcr", "teardownHead", "teardownPages"];
const whole = ["vcpuSize", "kvmSize", "hypVmPages", "hypVcpuPages"];
const banks = ["dbgBcr", "dbgBvr", "dbgWcr", "dbgWvr"];

/** The structures of the kernel with this seed. */
export function chooseStructures(seed: number): Structures {
  const random = new Random(seed);
  const place = (members: readonly string[], from: number): [Map<string, number>, number] => {
    const left = [...members];
    const offsets = new Map<string, number>();
    let at = from;
    while (left.length > 0) {
      const [name] = left.splice(random.below(left.length), 1) as [string];
      const size = sizes[name] ?? 8;
      const alignment = Math.min(size, 8) === 1 ? 1 : size === 4 ? 4 : 8;
      at = Math.ceil((at + 8 * random.below(4)) / alignment) * alignment;
      offsets.set(name, at);
      at += size;
    }
    return [offsets, at];
  };
  const vcpuMembers = [...layouts.profile.keys()].filter(
    (name) => ![...kvmMembers, ...whole, ...banks, "vgicV3"].includes(name),
  );
  const [vcpu, vcpuEnd] = place(vcpuMembers, 64);
  const [kvm, kvmEnd] = place(kvmMembers, 256);
  const debugRegisters = Math.ceil(vcpuEnd / 8) * 8;
  const roundUp = (value: number) => Math.ceil(value / 8) * 8;
  return {
    debugRegisters,
    profile: {
      ...Object.fromEntries(vcpu),
      ...Object.fromEntries(kvm),
      ...Object.fromEntries(banks.map((name, n) => [name, n * 128])),
      vgicV3: 8 * random.below(100),
      vcpuSize: roundUp(Math.max(debugRegisters + DEBUG_SIZE + VCPU_TAIL, 4096) + 8 * random.below(300)),
      kvmSize: roundUp(Math.max(kvmEnd + KVM_TAIL, 1024) + 8 * random.below(300)),
      hypVmPages: 1 + random.below(3),
      hypVcpuPages: 1 + random.below(3),
    },
  };
}
