/** One CPU: its registers, what it runs, and its FP/SIMD and SVE state. */
import type { CpuModel } from "./models.ts";
import { Registers } from "./registers.ts";

/** What a CPU runs between two entries of the core. */
export type Context = "off" | "host" | "guest";

/** Words of the largest SVE vector (16 quadwords), and bytes of the largest predicate. */
const Z_WORDS = 32;
const P_BYTES = 32;
const P_COUNT = 17;

/** v0..v31, FPSR, FPCR: bytes of an image in memory, and where FPSR is. */
export const FP_IMAGE = 528;
export const FP_FPSR = 512;

/** Reads and writes bytes somewhere: linear memory or physical memory. */
export interface Bytes {
  read(at: number, size: 4 | 8): bigint;
  write(at: number, size: 4 | 8, value: bigint): void;
  readByte(at: number): number;
  writeByte(at: number, value: number): void;
}

export class Cpu {
  readonly registers: Registers;
  context: Context = "off";
  /** x0..x30, program counter and PSTATE of the context that runs. */
  readonly x = new BigUint64Array(31);
  pc = 0n;
  pstate = 0n;
  /** z0..z31, each 32 words; the two lowest of each are v0..v31. */
  readonly z = new BigUint64Array(32 * Z_WORDS);
  /** p0..p15 and FFR, 32 bytes each. */
  readonly p = new Uint8Array(P_COUNT * P_BYTES);
  fpsr = 0n;
  fpcr = 0n;
  /** VTTBR_EL2 that is in force: a write takes effect with the next context synchronization. */
  vttbr = 0n;

  readonly index: number;
  readonly model: CpuModel;
  /** MPIDR_EL1 affinity. */
  readonly affinity: bigint;

  constructor(index: number, model: CpuModel, affinity: bigint) {
    this.index = index;
    this.model = model;
    this.affinity = affinity;
    this.registers = new Registers(model, affinity | (1n << 31n));
  }

  /** What is written to registers becomes effective: an ISB, an exception or its return. */
  synchronize(): void {
    this.vttbr = this.registers.get("vttbr_el2");
  }

  /** v`n` as two words, the lower first. */
  v(n: number): readonly [bigint, bigint] {
    return [this.z[n * Z_WORDS] as bigint, this.z[n * Z_WORDS + 1] as bigint];
  }

  /** Writes v`n`, which clears what SVE has above it. */
  setV(n: number, low: bigint, high: bigint): void {
    this.z.fill(0n, n * Z_WORDS, (n + 1) * Z_WORDS);
    this.z[n * Z_WORDS] = low;
    this.z[n * Z_WORDS + 1] = high;
  }

  /** Stores v0..v31, FPSR and FPCR at `image`. */
  saveFp(memory: Bytes, image: number): void {
    for (let n = 0; n < 32; n++) {
      const [low, high] = this.v(n);
      memory.write(image + 16 * n, 8, low);
      memory.write(image + 16 * n + 8, 8, high);
    }
    this.saveStatus(memory, image + FP_FPSR);
  }

  loadFp(memory: Bytes, image: number): void {
    for (let n = 0; n < 32; n++)
      this.setV(n, memory.read(image + 16 * n, 8), memory.read(image + 16 * n + 8, 8));
    this.loadStatus(memory, image + FP_FPSR);
  }

  /** Stores z0..z31, p0..p15 and FFR at `state`, at the vector length in force, and FPSR and FPCR at `fpsr`. */
  saveSve(memory: Bytes, state: number, fpsr: number): void {
    const vq = this.vectorLength();
    for (let n = 0; n < 32; n++) {
      for (let word = 0; word < 2 * vq; word++)
        memory.write(state + n * 16 * vq + 8 * word, 8, this.z[n * Z_WORDS + word] as bigint);
    }
    const predicates = state + 32 * 16 * vq;
    for (let n = 0; n < P_COUNT; n++) {
      for (let byte = 0; byte < 2 * vq; byte++)
        memory.writeByte(predicates + n * 2 * vq + byte, this.p[n * P_BYTES + byte] as number);
    }
    this.saveStatus(memory, fpsr);
  }

  loadSve(memory: Bytes, state: number, fpsr: number): void {
    const vq = this.vectorLength();
    this.z.fill(0n);
    this.p.fill(0);
    for (let n = 0; n < 32; n++) {
      for (let word = 0; word < 2 * vq; word++)
        this.z[n * Z_WORDS + word] = memory.read(state + n * 16 * vq + 8 * word, 8);
    }
    const predicates = state + 32 * 16 * vq;
    for (let n = 0; n < P_COUNT; n++) {
      for (let byte = 0; byte < 2 * vq; byte++)
        this.p[n * P_BYTES + byte] = memory.readByte(predicates + n * 2 * vq + byte);
    }
    this.loadStatus(memory, fpsr);
  }

  /** Vector length in quadwords: the smaller of what ZCR_EL2 allows and what the CPU has. */
  vectorLength(): number {
    return Math.min(this.model.maxVq, Number(this.registers.get("zcr_el2") & 15n) + 1);
  }

  private saveStatus(memory: Bytes, at: number): void {
    memory.write(at, 4, this.fpsr);
    memory.write(at + 4, 4, this.fpcr);
  }

  private loadStatus(memory: Bytes, at: number): void {
    this.fpsr = memory.read(at, 4);
    this.fpcr = memory.read(at + 4, 4);
  }
}
