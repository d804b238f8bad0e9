/**
 * FP/SIMD and SVE registers: the host's wait in this CPU's area from a guest's first use of them until its exit.
 *
 * A register file is a token: what it holds is what matters, and where. `images` says which one an image in the area holds.
 */
import { and, bv, type Clause, eq, ite, not, type State, sub, type Term, ult } from "../microv/index.ts";
import { bringBack, putAway } from "./el1.ts";
import { vcpuField } from "./invariants.ts";
import { vcpuIndex } from "./linear.ts";
import { FP_BYTES, type Registers } from "./machine.ts";
import { areaKey, cpuField, cpuKey, inArea } from "./percpu.ts";
import { type Machine, read, word, write } from "./state.ts";

/** ZCR_ELx.LEN that allows all vector lengths. */
const ZCR_ALL = bv(15, 64);

const hostFp = (m: Machine) => m.layout.constant("HOST_FP");
const hostImage = (m: Machine): Term => inArea(m, hostFp(m));

export const fpIsLoaded = (state: State, m: Machine): Term =>
  not(eq(cpuField(state, m, "fpLoaded"), bv(0, 64)));

/** The host's register file, wherever it is. */
export const fpOfHost = (state: State, m: Machine, registers: Registers): Term =>
  ite(fpIsLoaded(state, m), read(state, "images", hostImage(m)), registers.get(state, "fp"));

/** Vector length of a vCPU in quadwords; 0 without SVE. */
const sveVq = (state: State, m: Machine, vcpu: Term): Term =>
  word(state, vcpuField(m, vcpuIndex(vcpu), "sveVq"));
export const hasSve = (state: State, m: Machine, vcpu: Term): Term =>
  not(eq(sveVq(state, m, vcpu), bv(0, 64)));

/** The host's registers are put away, and the guest's are in the machine, if `condition`. */
export function guestFpLoaded(
  c: Clause,
  m: Machine,
  registers: Registers,
  vcpu: Term,
  condition: Term,
): void {
  const { state } = c;
  const sve = and(condition, hasSve(state, m, vcpu));
  const vq = sveVq(state, m, vcpu);
  write(state, "images", hostImage(m), registers.get(state, "fp"), condition);
  const start = areaKey(m, hostFp(m));
  c.havoc("linear", (key) => and(condition, ult(sub(key, start), bv(FP_BYTES / 8, 29))));
  putAway(state, m, registers, "zcr_el1", sve);
  registers.set(state, "zcr_el2", sub(vq, bv(1, 64)), sve);
  c.havoc("registers", (key) => and(condition, registers.among(key, ["fp"])));
  c.havoc("registers", (key) => and(sve, registers.among(key, ["zcr_el1"])));
  write(state, "linear", cpuKey(m, "fpLoaded"), bv(1, 64), condition);
}

/** The host's registers are in the machine. */
export function hostFpLoaded(state: State, m: Machine, registers: Registers, vcpu: Term): void {
  const loaded = fpIsLoaded(state, m);
  const sve = and(loaded, hasSve(state, m, vcpu));
  registers.set(state, "fp", read(state, "images", hostImage(m)), loaded);
  bringBack(state, m, registers, "zcr_el1", sve);
  registers.set(state, "zcr_el2", ZCR_ALL, sve);
  write(state, "linear", cpuKey(m, "fpLoaded"), bv(0, 64), loaded);
}
