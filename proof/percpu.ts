/** The per-CPU area: where the host's registers are while the core runs. */
import { and, bv, concat, eq, extract, type State, type Term, ult, zext } from "../microv/index.ts";
import { field } from "./layout.ts";
import { cpu, type Machine, read, word, write } from "./state.ts";

/** Key in linear memory of x`n` of the host, `n` below 31 or 5 bits wide. */
export function hostKey(m: Machine, n: Term | number): Term {
  const frame = m.layout.constant("HOST_FRAME") >> 8;
  const index = typeof n === "number" ? bv(n, 5) : n;
  return concat(extract(31, 12, m.area), bv(frame, 4), index);
}

/** x`n` of the host. */
export const hostReg = (state: State, m: Machine, n: Term | number): Term =>
  read(state, "linear", hostKey(m, n));

/** Gives x`n` of the host a value, if `condition`. */
export const setHostReg = (state: State, m: Machine, n: Term | number, value: Term, condition?: Term): void =>
  write(state, "linear", hostKey(m, n), value, condition);

/** Whether a key in linear memory is one of x0 to x`count - 1` of the host. */
export function isHostReg(m: Machine, key: Term, count = 31): Term {
  return and(eq(extract(28, 5, key), extract(28, 5, hostKey(m, 0))), ult(extract(4, 0, key), bv(count, 5)));
}

/** Whether this CPU's area says which CPU it is, so that firmware can be told which one is to come back. */
export const knowsNumber = (state: State, m: Machine): Term =>
  eq(cpuField(state, m, "index"), zext(extract(17, 12, m.area), 64));

/** A field of the CPU's area at `area`. */
export const areaField = (state: State, area: Term, name: string): Term =>
  word(state, concat(extract(31, 12, area), bv(field.cpu(name), 12)));

/** A field of this CPU's area, and its key in linear memory. */
export const cpuField = (state: State, m: Machine, name: string): Term => areaField(state, m.area, name);
export const cpuKey = (m: Machine, name: string): Term =>
  concat(extract(31, 12, m.area), bv(field.cpu(name) >> 3, 9));

/** Number of this CPU as entries of the core are given it. */
export const cpuNumber = concat(bv(0, 26), cpu);

/** Key in linear memory of the word `offset` bytes into this CPU's area. */
export const areaKey = (m: Machine, offset: number): Term =>
  concat(extract(31, 12, m.area), bv(offset >> 3, 9));
/** Linear address of what lies there. */
export const inArea = (m: Machine, offset: number): Term => concat(areaKey(m, offset), bv(0, 3));

/** Whether a key in linear memory is one of x0 to x30 of the guest. */
export function isGuestReg(m: Machine, key: Term): Term {
  const frame = areaKey(m, m.layout.constant("GUEST_FRAME"));
  return and(eq(extract(28, 5, key), extract(28, 5, frame)), ult(extract(4, 0, key), bv(31, 5)));
}

/** Linear address of register xn of the guest. */
export const guestReg = (m: Machine, n: number): Term => inArea(m, m.layout.constant("GUEST_FRAME") + 8 * n);

/** The form of a parameter that is this CPU's area. */
export const thisCpu = (m: Machine) => () => m.area;

/** Features of a CPU, by bit of `Cpu.features`. */
export const FEATURES = [
  "SVE",
  "RAS",
  "PMU",
  "SPE",
  "TRBE",
  "HCX",
  "TCR2",
  "S1PIE",
  "S1POE",
  "PAUTH",
  "SME",
  "A32_EL0",
  "FGT",
  "AMU",
  "FWB",
] as const;
export type Feature = (typeof FEATURES)[number];

/** Whether this CPU has all of the features. */
export function has(state: State, m: Machine, ...features: readonly Feature[]): Term {
  const word = cpuField(state, m, "features");
  return and(
    ...features.map((name) => {
      const bit = FEATURES.indexOf(name);
      return eq(extract(bit, bit, word), bv(1, 1));
    }),
  );
}

/** Name of the field that keeps a register, such as `sctlrEl1` for `sctlr_el1`. */
export const fieldOf = (register: string): string =>
  register.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
