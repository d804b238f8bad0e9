/**
 * The system registers of one CPU, by their architectural names in lower case.
 *
 * Any name is a register: a new one in the core's imports needs no code here. Most only keep what was written;
 * those that do more are in `special`. A CPU model may lack a register, and then an access is undefined.
 */
import { type CpuModel, hasRegister } from "./models.ts";

/** An instruction that the CPU does not have: an exception that EL2 takes from itself. */
export class UndefinedInstruction extends Error {
  constructor(register: string, model: string) {
    super(`access to ${register}, which ${model} does not have`);
  }
}

/** Number of list registers that there may be. */
const MAX_LRS = 16;
const ICH_LR_STATE = 3n << 62n;

/** Registers whose value is not simply what was written last. */
const special: Readonly<
  Record<string, { read?: (file: Registers) => bigint; write?: (file: Registers, value: bigint) => void }>
> = {
  // Bit n set: list register n is empty.
  ich_elrsr_el2: {
    read: (file) => {
      let empty = 0n;
      for (let n = 0; n < MAX_LRS; n++) {
        const name = `ich_lr${n}_el2`;
        if (file.has(name) && (file.get(name) & ICH_LR_STATE) === 0n) empty |= 1n << BigInt(n);
      }
      return empty;
    },
  },
  pmcntenset_el0: {
    read: (file) => file.get("pmcnten"),
    write: (file, value) => file.set("pmcnten", file.get("pmcnten") | value),
  },
  pmcntenclr_el0: {
    read: (file) => file.get("pmcnten"),
    write: (file, value) => file.set("pmcnten", file.get("pmcnten") & ~value),
  },
};

/** Registers that software cannot write. */
const readOnly = /^(id_aa64|midr|mpidr|ich_vtr|ich_elrsr|pmbidr|trbidr)/;

export class Registers {
  /** Values by the register's number in `numbers`; undefined before the first write. */
  readonly values: (bigint | undefined)[] = [];

  readonly model: CpuModel;

  /**
   * @param model decides which registers exist and gives the identification registers
   * @param mpidr affinity of this CPU
   */
  constructor(model: CpuModel, mpidr: bigint) {
    this.model = model;
    for (const [name, value] of Object.entries(model.ids)) this.values[numberOf(name)] = value;
    this.values[numberOf("mpidr_el1")] = mpidr;
  }

  /** True when the CPU has the register. */
  has(name: string): boolean {
    return hasRegister(this.model, name);
  }

  /** The value of register `name`, without side effects and whether or not the CPU has it. */
  get(name: string): bigint {
    return this.values[numberOf(name)] ?? 0n;
  }

  /** Sets register `name`, as hardware or a test does: without side effects. */
  set(name: string, value: bigint): void {
    this.values[numberOf(name)] = BigInt.asUintN(64, value);
  }
}

const numbers = new Map<string, number>();

/** The number of register `name`, the same for every CPU. */
export function numberOf(name: string): number {
  let number = numbers.get(name);
  if (number === undefined) {
    number = numbers.size;
    numbers.set(name, number);
  }
  return number;
}

/** Names of all registers that were ever spoken of. */
export function registerNames(): readonly string[] {
  return [...numbers.keys()];
}

/**
 * The instruction `mrs` of register `name` on the CPU whose registers `current` gives.
 * @returns a function that throws UndefinedInstruction where the CPU lacks the register
 */
export function mrs(name: string, current: () => Registers): () => bigint {
  const number = numberOf(name);
  const read = special[name]?.read;
  return () => {
    const file = current();
    if (!exists(file, name, number)) throw new UndefinedInstruction(name, file.model.name);
    return read ? read(file) : (file.values[number] ?? 0n);
  };
}

/** The instruction `msr`, as `mrs`. */
export function msr(name: string, current: () => Registers): (value: bigint) => void {
  const number = numberOf(name);
  const write = special[name]?.write;
  if (readOnly.test(name)) {
    return () => {
      throw new UndefinedInstruction(`read-only ${name}`, current().model.name);
    };
  }
  return (value) => {
    const file = current();
    if (!exists(file, name, number)) throw new UndefinedInstruction(name, file.model.name);
    if (write) write(file, BigInt.asUintN(64, value));
    else file.values[number] = BigInt.asUintN(64, value);
  };
}

/** Whether registers exist, by model and number: asking the patterns at each access would be slow. */
const known = new Map<string, (boolean | undefined)[]>();

function exists(file: Registers, name: string, number: number): boolean {
  let answers = known.get(file.model.name);
  if (answers === undefined) {
    answers = [];
    known.set(file.model.name, answers);
  }
  answers[number] ??= file.has(name);
  return answers[number];
}
